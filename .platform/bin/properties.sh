# Sourced by the scripts beside it: how they read the environment's properties and speak to its log.
# shellcheck shell=bash

# property NAME [DEFAULT]: the value of an environment property, or the default where it is unset.
property() {
  local value
  value=$(/opt/elasticbeanstalk/bin/get-config environment -k "$1" 2>/dev/null) || value=""
  printf '%s' "${value:-${2:-}}"
}

# Both reach eb-hooks.log; a failing hook's output is also in eb-engine.log and in the event that `eb deploy` prints.
note() { echo "$(basename "$0"): $*"; }
fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}
