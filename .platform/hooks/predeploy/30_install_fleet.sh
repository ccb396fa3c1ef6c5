#!/usr/bin/env bash
# After pip, before the new version takes over.
exec bash "$(dirname "$0")/../../bin/install_fleet"
