#!/usr/bin/env bash
# After pip, before anything is stopped.
exec bash "$(dirname "$0")/../../bin/check_settings"
