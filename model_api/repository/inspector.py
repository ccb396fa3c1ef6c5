"""The other end of inspection.py: one order on standard input, one answer on standard output, then the end.

`python -m model_api.repository.inspector`. Stdlib only, Python 3.9.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.folder_content import hash_folder, quick_check
from model_api.repository.folder_signature import Changed
from model_api.repository.safetensors_header import Incomplete

_LIFE: dict[str, float] = {}
MAX_MEMORY_BYTES = 2 * 2**30  # a tokenizer.json of 34 MB takes a quarter of it


def answer(order: Mapping[str, Any]) -> dict[str, Any]:
    """What the order comes to, as JSON."""
    try:
        if "quick" in order:
            quick_check(Path(order["quick"]))
            return {}
        signature = {path: tuple(marks) for path, marks in order["signature"].items()}
        manifest = hash_folder(order["name"], Path(order["hash"]), signature, _show_life)
        return {"manifest": manifest.to_json()}
    except Refused as error:
        return {"refused": [error.path, error.reason], "incomplete": isinstance(error, Incomplete)}
    except Changed as error:
        return {"changed": str(error)}
    except OSError as error:
        file = str(error.filename) if error.filename else None
        return {"failed": [error.errno, error.strerror or str(error), file] if error.errno else [str(error)]}
    except Exception as error:  # whatever a stranger's files bring about says something about them
        return {"refused": ["", f"its files can't be read ({type(error).__name__}: {error})"]}


def _show_life() -> None:
    """An empty line now and then, so that the other end can tell slow from stuck."""
    now_s = time.monotonic()
    if now_s - _LIFE.get("shown_s", 0.0) > 1.0:
        _LIFE["shown_s"] = now_s
        sys.stdout.write("\n")
        sys.stdout.flush()


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
