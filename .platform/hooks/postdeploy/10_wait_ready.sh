#!/usr/bin/env bash
# The deployment isn't done before the models are loaded.
exec bash "$(dirname "$0")/../../bin/wait_ready"
