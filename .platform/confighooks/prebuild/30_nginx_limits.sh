#!/usr/bin/env bash
# A changed limit reaches nginx too.
exec bash "$(dirname "$0")/../../bin/render_nginx_limits"
