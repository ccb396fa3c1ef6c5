#!/usr/bin/env bash
# No store, no deployment: the old version goes on.
exec bash "$(dirname "$0")/../../bin/mount_models"
