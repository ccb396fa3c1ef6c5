"""A prediction of the history as callers see it, and the cursors of lists."""

import base64
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from model_api.errors import InvalidInput
from model_api.history.measures import ROUGE_AND_BLEU

_AS_THEY_ARE = (
    "source",
    "version",
    "digest",
    "task",
    "caller",
    "topic",
    "input_sha256",
    "input_chars",
    "label",
    "score",
)


def document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a row of `predictions`."""
    scored = row["bleu"] is not None
    return {
        "id": str(row["id"]),
        "created": datetime.fromtimestamp(row["created_ms"] / 1000, UTC).isoformat(timespec="milliseconds"),
        **{name: row[name] for name in _AS_THEY_ARE},
        "model": row["model"] or None,
        "user": row["user_name"],
        **{
            name: None if row[name] is None else orjson.loads(row[name])
            for name in ("input", "prediction", "reference")
        },
        "correct": None if row["correct"] is None else bool(row["correct"]),
        "scores": {name: row[column] for name, column in ROUGE_AND_BLEU.items()} if scored else None,
        "latency_ms": row["latency_ms"],
        "cached": bool(row["cached"]),
    }


def cursor(prediction_id: int, of: str) -> str:
    """Where a page ended, of the list that `of` describes."""
    return base64.urlsafe_b64encode(f"h {prediction_id} {zlib.crc32(of.encode())}".encode()).decode()


def read_cursor(text: str, of: str) -> int:
    """Raises InvalidInput, for the cursor of another list too."""
    try:
        kind, prediction_id, list_id = base64.urlsafe_b64decode(text).decode("ascii").split(" ")
        if (
            kind == "h"
            and prediction_id.isdigit()
            and list_id == str(zlib.crc32(of.encode()))
            and len(prediction_id) < 20
        ):
            return min(int(prediction_id), 2**63 - 1)
    except ValueError:
        pass
    raise InvalidInput("not a cursor of this list: take `next` of the page before, with the same filters", "/after")
