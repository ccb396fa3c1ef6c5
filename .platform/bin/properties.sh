# Sourced by the scripts beside it: how they read the environment's properties, speak to its log, and stay bounded.
# shellcheck shell=bash

# Both reach eb-hooks.log; a failing hook's output is also in eb-engine.log and in the event that `eb deploy` prints.
note() { echo "$(basename "$0"): $*"; }
fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

system_python=$(command -v python3) || fail "this platform has no python3"

# all_properties: the environment's properties, one JSON object. All are asked for at once: get-config says of a name that
# is not set, and of its own failure, the same.
all_properties() {
  /opt/elasticbeanstalk/bin/get-config environment || fail "get-config failed, so the environment's properties are unknown"
}

# property NAME [DEFAULT]: the value of an environment property, or the default where it is unset or empty. As the
# application reads it: without the spaces around it, its name in capitals or not.
property() {
  local properties
  properties=$(all_properties) || exit 1 # errexit doesn't reach into a substitution
  "$system_python" -c 'import json, sys
given = {name.lower(): str(value).strip() for name, value in json.load(sys.stdin).items() if value is not None}
value = given.get(sys.argv[1].lower(), "")
print(value, end="")
sys.exit(not value)' "$1" <<<"$properties" || printf '%s' "${2:-}"
}

# whole NAME DEFAULT: likewise a number (1e2 seconds, 010 is ten), in whole units.
whole() {
  local value
  value=$(property "$1" "$2") || exit 1
  "$system_python" -c 'import math, sys
try:
    number = float(sys.argv[1])
    assert math.isfinite(number) and number >= 0
except (ValueError, AssertionError):
    sys.exit(1)
print(math.ceil(number))' "$value" || fail "$1=$value is not a number"
}

# bounded SECONDS COMMAND...: its status; 124 past the time. It and its children are killed then; what can't even be
# killed, because it hangs in a file system, is left behind, and holds nothing of the hook's: the engine waits for whoever
# has the hook's output open.
bounded() {
  local pid said status until=$((SECONDS + $1))
  shift
  said=$(mktemp)
  setsid "$@" >"$said" 2>&1 </dev/null &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    if [ $SECONDS -ge $until ]; then
      kill -KILL -- "-$pid" 2>/dev/null || true
      cat "$said"
      rm -f "$said"
      return 124
    fi
    sleep 0.2
  done
  wait "$pid" && status=0 || status=$?
  cat "$said"
  rm -f "$said"
  return "$status"
}

# is_mounted DIR: from the kernel's list, since asking the mount itself may hang.
is_mounted() { awk -v folder="$1" '$5 == folder { found = 1 } END { exit !found }' /proc/self/mountinfo; }
