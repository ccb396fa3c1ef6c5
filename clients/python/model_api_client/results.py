"""What calls return. Each names the exact weights that gave it, and the request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model_api_client.errors import MissingPackage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

QUEUED, RUNNING, SUCCEEDED = "queued", "running", "succeeded"


@dataclass(frozen=True)
class Answer:
    """By which weights, and under which id the server's log has the request.

    `model`, `version` and `digest` are None where no model was asked (scores of given texts). `cached_s`: seconds since
    a cached answer was computed; None for one that was computed just now.
    """

    model: str | None
    version: str | None
    digest: str | None
    request_id: str | None = field(compare=False)
    cached_s: float | None = field(compare=False)


@dataclass(frozen=True)
class Prediction(Answer):
    """One prediction per input, in order; what one is depends on the task. A sequence of its predictions.

    `truncated`: indices of inputs that were cut.
    """

    task: str
    predictions: list[Any]
    tokens: int
    truncated: list[int]

    def __len__(self) -> int:
        return len(self.predictions)

    def __getitem__(self, index: int) -> Any:
        return self.predictions[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.predictions)

    def vectors(self) -> npt.NDArray[np.float32]:
        """float32 [n, dimensions], of a model whose predictions are vectors. Needs numpy."""
        return _array(self.predictions)


@dataclass(frozen=True)
class Similarity(Answer):
    """`sims`: cosine of each text with the target, in order. `truncated`: indices of what was cut, and "target"."""

    target: str
    texts: list[str]
    sims: list[float]
    truncated: list[Any]

    def __len__(self) -> int:
        return len(self.sims)

    def __iter__(self) -> Iterator[float]:
        return iter(self.sims)

    def __getitem__(self, index: int) -> float:
        return self.sims[index]

    def ranked(self) -> list[tuple[str, float]]:
        """Texts with their similarity, the nearest first."""
        return sorted(zip(self.texts, self.sims), key=lambda pair: -pair[1])


@dataclass(frozen=True)
class Ranked:
    """A text that was ranked; `index` counts the texts that were sent."""

    index: int
    score: float
    text: str


@dataclass(frozen=True)
class Ranking(Answer):
    """`scores`: how well each text answers the query, in order. `top`: the best first."""

    query: str
    texts: list[str]
    scores: list[float]
    top: list[Ranked]
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Scores(Answer):
    """ROUGE (F-measures) and BLEU, 0 to 1, by name: `mean` over the items, and `items` in order. A mean is None where
    there is no item. `predictions`: what the model gave, where one predicted."""

    mean: dict[str, float | None]
    items: list[dict[str, float | None]]
    predictions: list[Any] | None


@dataclass(frozen=True)
class Model:
    """A model as the asked instance serves it. `document` is all that the server told."""

    name: str
    task: str | None
    version: str | None
    digest: str | None
    state: str
    precision: str | None
    memory_bytes: int | None
    canary: str | None
    refused: dict[str, str]
    document: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Model:
        canary = document.get("canary") or {}
        return cls(
            document["name"],
            document.get("task"),
            document.get("version"),
            document.get("digest"),
            document["state"],
            document.get("precision"),
            document.get("memory_bytes"),
            canary.get("version"),
            {row["version"]: row["reason"] for row in document.get("refused") or ()},
            dict(document),
        )


@dataclass(frozen=True)
class Job:
    """A job as it was when it was asked for. Moments are RFC 3339 in UTC. `progress_done` of `progress_total`
    `progress_unit`. `document` is all that the server told."""

    id: str
    kind: str
    status: str
    progress_done: int
    progress_total: int
    progress_unit: str
    progress_errors: int
    attempts: int
    model: str | None
    version: str | None
    digest: str | None
    created: str
    started: str | None
    finished: str | None
    expires: str | None
    error: Mapping[str, Any] | None
    document: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def is_over(self) -> bool:
        return self.status not in (QUEUED, RUNNING)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Job:
        progress = document["progress"]
        told = {name: document.get(name) for name in ("model", "version", "digest", "started", "finished", "expires")}
        return cls(
            id=document["id"],
            kind=document["kind"],
            status=document["status"],
            progress_done=progress["done"],
            progress_total=progress["total"],
            progress_unit=progress["unit"],
            progress_errors=progress.get("errors") or 0,
            attempts=document["attempts"],
            created=document["created"],
            error=document.get("error"),
            document=dict(document),
            **told,
        )


@dataclass(frozen=True)
class Upload:
    """Bytes that the server has. `job_id` is of the job that it started."""

    id: str
    size_bytes: int
    job_id: str | None


def _array(rows: Sequence[Any]) -> npt.NDArray[np.float32]:
    try:
        import numpy as np
    except ImportError:
        raise MissingPackage("vectors() needs numpy: pip install model-api-client[numpy]") from None
    return np.asarray(rows, np.float32)
