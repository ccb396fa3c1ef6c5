#!/usr/bin/env bash
# Before the engine collects nginx's configuration.
exec bash "$(dirname "$0")/../../bin/render_nginx_limits"
