"""The platform that the rehearsal's cloud offers."""

BRANCH = "Python 3.13 running on 64bit Amazon Linux 2023"
STACK = "64bit Amazon Linux 2023 v4.9.2 running Python 3.13"
