"""A stranger's folder is looked at in a process of its own: whatever its headers and JSON do to who parses them, the
process that answers callers only waits. See inspector.py for the other end.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.manifest import Manifest

QUICK_TIMEOUT_S = 20.0  # a quick look takes a tenth of a second; a folder that takes longer isn't served
MAX_ANSWER_BYTES = 64 * 2**20
_ROOT = Path(__file__).parents[2]


def quick_problem(folder: Path) -> str:
    """What is plainly wrong or missing in a folder, "" if nothing. Raises OSError."""
    try:
        answer = _ask({"quick": str(folder)}, QUICK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"looking at it took more than {QUICK_TIMEOUT_S:.0f} s; its files are not what models are made of"
    return str(answer["problem"]) if "problem" in answer else str(Refused(*answer["refused"]))


def hash_folder(name: str, folder: Path, signature: Mapping[str, Any]) -> Manifest:
    """As plain_folders.hash_folder, in the other process. Slow. Raises Refused, OSError."""
    answer = _ask({"hash": str(folder), "name": name, "signature": dict(signature)}, None)
    if "refused" in answer:
        raise Refused(*answer["refused"])
    return Manifest.from_json(answer["manifest"])


def _ask(order: Mapping[str, Any], timeout_s: float | None) -> dict[str, Any]:
    """Raises OSError with what went wrong over there, and subprocess.TimeoutExpired."""
    command = [sys.executable, "-S", "-s", "-m", "model_api.repository.inspector"]
    # Its standard input stays open: the inspector ends when that closes, so it never outlives us.
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            if timeout_s is None:
                text = process.stdout.read(MAX_ANSWER_BYTES)
            else:
                text = _read_in_time(process, timeout_s)
        finally:
            process.kill()
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError:
        raise OSError("looking at its files ended without an answer (they ask for too much memory?)") from None
    if "failed" in answer:
        raise OSError(*answer["failed"])
    return answer


def _read_in_time(process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
    process.wait(timeout_s)  # a quick answer is a line, which the pipe holds
    assert process.stdout is not None
    return process.stdout.read(MAX_ANSWER_BYTES)
