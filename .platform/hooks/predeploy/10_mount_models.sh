#!/usr/bin/env bash
# pip took minutes: is the store still there, right before the new version takes over?
exec bash "$(dirname "$0")/../../bin/mount_models"
