"""What is noted of one request, and the rows that it becomes: facts, redacted and bounded, of each prediction."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from model_api.history.measures import ROUGE_AND_BLEU

NO_PAIR, PAIR_WAITING, PAIR_SCORED, PAIR_TOO_LONG = range(4)  # of `pair_state`
MAX_CELL_BYTES = 64 * 1024  # of an input, prediction or reference; a longer one isn't kept, only what it measures
MAX_LABEL_CHARS = 64  # a longer one is a text
OTHER = "other"
HOUR_MS = 3_600_000
Row = dict[str, Any]

# None of these can take more than linear time: every repetition is bounded, or ends at the first foreign character.
_PATTERNS = {
    "email": re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}"),
    "url": re.compile(r"\bhttps?://[^\s<>\"]{1,2048}"),
    "iban": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"),
    "card": re.compile(r"\b\d(?:[ -]?\d){12,18}\b"),
    "ip": re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b(?:[0-9A-Fa-f]{1,4}:){2,7}[0-9A-Fa-f]{1,4}\b"),
    "phone": re.compile(r"(?<![\w.])\+?\d(?:[ ().-]{0,2}\d){6,14}\b"),
}


@dataclass(frozen=True)
class Entry:
    """One request's predictions, one per input. Made on a request's thread, and holds what is there."""

    created_ms: int
    source: str
    model: str
    version: str | None
    digest: str | None
    task: str | None
    inputs: Sequence[Any]
    predictions: Sequence[Any]
    size_bytes: int = 0  # of all that, about
    user: str | None = None
    topic: str | None = None
    references: Sequence[Any] | None = None
    scores: Sequence[Mapping[str, float]] | None = None
    latency_ms: float | None = None
    cached: bool = False
    caller: str | None = None  # the id of a key


@dataclass(frozen=True)
class Keeping:
    """How much is kept."""

    text: bool = True  # False: no input, prediction or reference
    redact: tuple[str, ...] = ()

    def redacted(self, value: Any) -> Any:
        """The same, with `[email]` and the like in all its texts."""
        if not self.redact:
            return value
        if isinstance(value, str):
            for kind in sorted(self.redact, key=list(_PATTERNS).index):  # an address before the numbers in it
                value = _PATTERNS[kind].sub(f"[{kind}]", value)
            return value
        if isinstance(value, Mapping):
            return {key: self.redacted(part) for key, part in value.items()}
        return [self.redacted(part) for part in value] if isinstance(value, list | tuple) else value


def rows_of(entry: Entry, keeping: Keeping, rest: Callable[[], None] = lambda: None) -> list[Row]:
    """One per prediction, without ids. `rest` is called between them."""
    rows = []
    for index, (given, predicted) in enumerate(zip(entry.inputs, entry.predictions, strict=False)):
        reference = entry.references[index] if entry.references is not None else None
        scores = entry.scores[index] if entry.scores is not None else {}
        rows.append(_row(entry, keeping, given, predicted, reference, scores))
        rest()
    return rows


def _row(
    entry: Entry, keeping: Keeping, given: Any, predicted: Any, reference: Any, scores: Mapping[str, float]
) -> Row:
    if isinstance(predicted, orjson.Fragment):
        predicted = orjson.loads(orjson.dumps(predicted))
    shown = keeping.redacted(given)
    cell = None if given is None else dumped(shown)
    label, score = label_of(predicted), number_of(scores.get("score", score_of(predicted)))
    text = text_of(predicted)
    row: Row = {
        "created_ms": entry.created_ms,
        "hour": entry.created_ms // HOUR_MS,
        "source": entry.source,
        "model": entry.model,
        "version": entry.version,
        "digest": entry.digest,
        "task": entry.task,
        "user_name": entry.user,
        "topic": entry.topic,
        "input": _kept(cell, keeping),
        "input_sha256": None if cell is None else hashlib.sha256(cell).hexdigest(),
        "input_chars": None if given is None else chars_of(given),
        "prediction": _kept(dumped(keeping.redacted(predicted)), keeping),
        "output_chars": None if text is None or label is not None else len(text),
        "label": label,
        "score": score,
        "latency_ms": entry.latency_ms,
        "cached": int(entry.cached),
        "caller": entry.caller,
        **{column: number_of(scores.get(name)) for name, column in ROUGE_AND_BLEU.items()},
    }
    return row | referred(row, predicted, keeping.redacted(reference), keeping)


def referred(row: Mapping[str, Any], predicted: Any, reference: Any, keeping: Keeping) -> Row:
    """The columns that a reference fills: whether the label is right, or that the pair of texts waits to be scored."""
    found: Row = {"reference": None, "correct": None, "pair_state": NO_PAIR}
    if reference is None:
        return found
    found["reference"] = _kept(dumped(reference), keeping)
    if row["label"] is not None:
        found["correct"] = int(row["label"] == reference)
    elif row["bleu"] is not None:
        found["pair_state"] = PAIR_SCORED
    elif isinstance(reference, str) and text_of(predicted) is not None and found["reference"] and row["prediction"]:
        found["pair_state"] = PAIR_WAITING
    return found


def dumped(value: Any) -> bytes:
    """JSON in UTF-8; it holds no NUL, which PostgreSQL wouldn't take."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _kept(cell: bytes | None, keeping: Keeping) -> str | None:
    return cell.decode() if cell is not None and keeping.text and len(cell) <= MAX_CELL_BYTES else None


def label_of(predicted: Any) -> str | None:
    """Of a classification, or a short text that was sent as the prediction of one."""
    found = predicted.get("label") if isinstance(predicted, Mapping) else None
    return clean(found, 128) if isinstance(found, str) and len(found) <= MAX_LABEL_CHARS else None


def score_of(predicted: Any) -> Any:
    """Of a label, or of a regression; the best of what was compared (`sims`, `scores`)."""
    if not isinstance(predicted, Mapping):
        return predicted if isinstance(predicted, int | float) else None
    compared = predicted.get("sims", predicted.get("scores"))
    if isinstance(compared, list | tuple) and compared:
        return max(compared)
    return predicted.get("score")


def text_of(predicted: Any) -> str | None:
    """The text that a prediction is, or has."""
    found = predicted.get("text") if isinstance(predicted, Mapping) else predicted
    return found if isinstance(found, str) else None


def number_of(value: Any) -> float | None:
    """As a database can hold it, and its square too."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e12:
        return None
    return float(value)


def chars_of(value: Any) -> int:
    """Of all texts in it."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(chars_of, value.values()))
    return sum(map(chars_of, value)) if isinstance(value, list | tuple) else 0


def clean(name: str, max_chars: int) -> str:
    """A name as every database keeps it: nothing that can't be printed, no blank around it."""
    return "".join(c for c in name if c.isprintable()).strip()[:max_chars]
