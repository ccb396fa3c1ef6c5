"""Bodies and answers of the history, as web/schemas.py has the others."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from model_api.web.schemas import Body

_LOG: dict[str, Any] = {
    "source": "newsletter",
    "items": [{"input": "a long article", "prediction": "a summary", "reference": "the editor's summary"}],
}
Name = Annotated[str, Field(min_length=1, max_length=128)]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class GivenScores(Body):
    """What whoever predicted has measured already."""

    score: Score | None = None
    rouge1: Score | None = None
    rouge2: Score | None = None
    rougeL: Score | None = None  # noqa: N815  the scores' own names
    rougeLsum: Score | None = None  # noqa: N815
    bleu: Score | None = None


class LogItem(Body):
    """One prediction."""

    input: Any = None
    prediction: Any = Field(description='A text, `{"label", "score"}`, or what a model of this server predicts.')
    reference: Any = Field(None, description="What would have been right.")
    scores: GivenScores | None = None
    user: Name | None = None
    topic: Name | None = None


class LogBody(Body):
    """Predictions that were made elsewhere."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LOG]})

    model: Name | None = None
    source: str | None = Field(None, min_length=1, max_length=64, description="Default: X-Source, else `log`.")
    items: Annotated[list[LogItem], FailFast()] = Field(min_length=1)


class ReferenceBody(Body):
    """What would have been right; null takes it away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reference": "positive"}]})

    reference: Any


class Logged(BaseModel):
    logged: int
    ids: list[str] = Field(description="One per item, in order. They are kept by now.")


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, max_length=128, description="A model's name; default: all.")
    source: str | None = Field(None, max_length=64, description="Default: all.")
    since: str | None = Field(None, max_length=64, description="RFC 3339, or a day. From then on.")
    until: str | None = Field(None, max_length=64, description="RFC 3339, or a day. Before that.")
    zone: str | None = Field(None, max_length=64, description="Of times without an offset, as Europe/Berlin; UTC.")


class HistoryQuery(_Query):
    after: str | None = Field(None, max_length=256, description="`next` of the page before.")
    limit: int = Field(50, ge=1, le=1000)


class CountsQuery(_Query):
    by: Literal["hour", "day", "month"] = Field("day", description="Of the time zone.")


class StatisticsQuery(_Query):
    by: Literal["hour", "day", "month"] | None = Field(None, description="Means of `measure` over time, too.")
    measure: Literal[
        "score",
        "correct",
        "rouge1",
        "rouge2",
        "rougeL",
        "rougeLsum",
        "bleu",
        "input_chars",
        "output_chars",
        "compression",
        "latency_ms",
    ] = Field("score", description="Of `series`.")


class LabelsQuery(_Query):
    by: Literal["user", "topic"] = Field("user", description="Whose labels; as X-User and X-Topic, or /log, said.")
    limit: int = Field(50, ge=1, le=200)


class SamplesQuery(_Query):
    n: int = Field(10, ge=1, le=100)


class PredictionPath(BaseModel):
    id: str = Field(description="The prediction's id.")


class PairScores(BaseModel):
    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815
    rougeLsum: float  # noqa: N815
    bleu: float


class KeptPrediction(BaseModel):
    """One prediction. What isn't known, or isn't kept, is null."""

    id: str
    created: str
    source: str
    model: str | None
    version: str | None
    digest: str | None
    task: str | None
    caller: str | None = Field(description="The id of the key that asked.")
    user: str | None
    topic: str | None
    input: Any
    input_sha256: str | None
    input_chars: int | None
    prediction: Any
    label: str | None
    score: float | None
    reference: Any
    correct: bool | None = Field(description="Whether the label is the reference.")
    scores: PairScores | None = Field(description="Of a text and its reference, some seconds after both are known.")
    latency_ms: float | None
    cached: bool


class PredictionPage(BaseModel):
    predictions: list[KeptPrediction] = Field(description="Newest first.")
    next: str | None = Field(description="For `after`; null on the last page.")


class SamplesAnswer(BaseModel):
    predictions: list[KeptPrediction]


class Count(BaseModel):
    start: str
    n: int
    sources: dict[str, int]


class CountsAnswer(BaseModel):
    by: str
    zone: str
    since: str
    until: str
    exact: bool = Field(description="False where days don't begin with hours of UTC: an hour counts where it begins.")
    counts: list[Count] = Field(description="Oldest first, empty ones too.")


class Histogram(BaseModel):
    edges: list[float] = Field(description="21, of 20 bins; what lies outside counts in the first or last.")
    counts: list[int]


class Measure(BaseModel):
    n: int
    mean: float
    std: float
    min: float | None
    max: float | None
    histogram: Histogram


class LabelCount(BaseModel):
    label: str
    n: int
    mean_score: float


class Shift(BaseModel):
    """Population stability indices; null where either side has fewer than 50."""

    since: str
    until: str
    labels: float | None
    scores: float | None
    mean_score: float | None = Field(description="By how much it grew.")


class Mean(BaseModel):
    start: str
    n: int
    mean: float


class StatisticsAnswer(BaseModel):
    since: str
    until: str
    measures: dict[str, Measure]
    labels: list[LabelCount] = Field(description="The 100 most frequent.")
    shift: Shift = Field(description="Against the span of the same length before.")
    series: list[Mean] | None = Field(None, description="Where `by` is given.")


class Group(BaseModel):
    name: str
    n: int
    labels: list[LabelCount]


class LabelsAnswer(BaseModel):
    by: str
    since: str
    until: str
    groups: list[Group] = Field(description="Those with most predictions first.")


# Described as parameters, not as schemas.
PARTS_OF_ADDRESSES: tuple[type[BaseModel], ...] = (
    _Query,
    HistoryQuery,
    CountsQuery,
    StatisticsQuery,
    LabelsQuery,
    SamplesQuery,
    PredictionPath,
)
