#!/usr/bin/env bash
# The change isn't done before the models are loaded again.
exec bash "$(dirname "$0")/../../bin/wait_ready"
