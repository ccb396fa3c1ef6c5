"""The other end of inspection.py: one order on standard input, one answer on standard output, then the end.

`python -m model_api.repository.inspector`. Stdlib only, Python 3.9.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.plain_folders import hash_folder, look_for_problems

MAX_MEMORY_BYTES = 2 * 2**30  # a tokenizer.json of 34 MB takes a quarter of it


def answer(order: Mapping[str, Any]) -> dict[str, Any]:
    """What the order comes to, as JSON."""
    try:
        if "quick" in order:
            return {"problem": look_for_problems(Path(order["quick"]))}
        signature = {path: tuple(marks) for path, marks in order["signature"].items()}
        manifest = hash_folder(order["name"], Path(order["hash"]), signature)
        return {"manifest": manifest.to_json()}
    except Refused as error:
        return {"refused": [error.path, error.reason]}
    except OSError as error:
        return {"failed": [error.errno, error.strerror or str(error)] if error.errno else [str(error)]}
    except Exception as error:  # whatever a stranger's files bring about says something about them
        return {"refused": ["", f"its files can't be read ({type(error).__name__}: {error})"]}


def _bound_ourselves() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:  # not Linux
        return


def _end_with_our_starter() -> None:
    os.read(0, 1)  # nothing more is sent: it returns when the other end closes
    os._exit(1)


def main() -> None:
    _bound_ourselves()
    order = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_our_starter, daemon=True).start()
    sys.stdout.write(json.dumps(answer(order)))
    sys.stdout.flush()
    os._exit(0)  # the other thread holds standard input


if __name__ == "__main__":
    main()
