"""A stranger's folder is looked at in a process of its own: whatever its headers and JSON do to who parses them, the
process that answers callers only waits. See inspector.py for the other end.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.folder_signature import Changed, Signature
from model_api.repository.manifest import Manifest
from model_api.repository.safetensors_header import Incomplete
from model_api.repository.side_work import OnProgress

QUICK_TIMEOUT_S = 5.0  # a quick look takes a tenth of a second; a folder that takes longer is not served
MAX_ANSWER_BYTES = 64 * 2**20
_QUICK_ONES = threading.Semaphore(4)
_ROOT = Path(__file__).parents[2]


def quick_check(folder: Path) -> None:
    """As folder_content.quick_check, in the other process. Raises Refused (Incomplete), OSError."""
    with _QUICK_ONES:
        answer = _ask({"quick": str(folder)}, QUICK_TIMEOUT_S)
    _raise_refusal(answer)


def hash_folder(name: str, folder: Path, signature: Signature, on_progress: OnProgress) -> Manifest:
    """As folder_content.hash_folder, in the other process. Slow. Raises Refused, Changed, other OSError."""
    answer = _ask({"hash": str(folder), "name": name, "signature": dict(signature)}, None, on_progress)
    _raise_refusal(answer)
    return Manifest.from_json(answer["manifest"])


def _raise_refusal(answer: Mapping[str, Any]) -> None:
    if "refused" in answer:
        raise (Incomplete if answer.get("incomplete") else Refused)(*answer["refused"])


def _ask(order: Mapping[str, Any], timeout_s: float | None, on_progress: OnProgress = lambda: None) -> dict[str, Any]:
    """Raises OSError with what went wrong over there, Refused if there is no answer within `timeout_s`."""
    command = [sys.executable, "-S", "-s", "-m", "model_api.repository.inspector"]
    # Its standard input stays open: the inspector ends when that closes, so it never outlives us.
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        watchdog = threading.Timer(timeout_s, process.kill) if timeout_s is not None else None
        if watchdog is not None:
            watchdog.start()
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            text = b"\n"
            while text == b"\n":  # a sign of life
                on_progress()
                text = process.stdout.readline(MAX_ANSWER_BYTES)
        finally:
            timed_out = watchdog is not None and not watchdog.is_alive()
            if watchdog is not None:
                watchdog.cancel()
            process.kill()
    if timed_out and not text:
        raise Refused("", f"looking at it took more than {timeout_s:.0f} s; its files are not what models are made of")
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError:
        raise OSError("looking at its files ended without an answer (they ask for too much memory?)") from None
    if "changed" in answer:
        raise Changed(answer["changed"])
    if "failed" in answer:
        raise OSError(*answer["failed"])
    return answer
