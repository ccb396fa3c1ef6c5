#!/usr/bin/env bash
# After the mount (the wheelhouse may be on the EFS), before Beanstalk runs pip.
exec bash "$(dirname "$0")/../../bin/stage_wheels"
