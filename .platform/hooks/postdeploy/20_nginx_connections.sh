#!/usr/bin/env bash
exec bash "$(dirname "$0")/../../bin/raise_nginx_connections"
