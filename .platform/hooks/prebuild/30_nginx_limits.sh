#!/usr/bin/env bash
# Before the engine collects nginx's configuration.
exec "$(dirname "$0")/../../bin/render_nginx_limits"
