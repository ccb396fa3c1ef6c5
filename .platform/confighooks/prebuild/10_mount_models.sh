#!/usr/bin/env bash
# A property change must not fail for want of the store if the local copies can serve.
exec bash "$(dirname "$0")/../../bin/mount_models" --lenient
