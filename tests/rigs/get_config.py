"""A stand-in for Beanstalk's get-config, which prints an environment's properties as one JSON object."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path


def write_get_config(path: Path, properties: Mapping[str, object] | None) -> None:
    """A program at `path` that knows `properties`; None: one that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if properties is None:
        path.write_text("#!/bin/sh\necho 'get-config: broken' >&2\nexit 1\n")
    else:
        path.write_text(f"#!/bin/sh\nprintf '%s' {shlex.quote(json.dumps(dict(properties)))}\n")
    path.chmod(0o755)
