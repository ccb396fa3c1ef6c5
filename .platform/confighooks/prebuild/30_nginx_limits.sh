#!/usr/bin/env bash
# A changed limit reaches nginx too.
exec "$(dirname "$0")/../../bin/render_nginx_limits"
