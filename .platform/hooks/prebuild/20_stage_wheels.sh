#!/usr/bin/env bash
# After the mount (the wheelhouse may be on the EFS), before Beanstalk runs pip.
exec "$(dirname "$0")/../../bin/stage_wheels"
