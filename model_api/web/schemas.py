"""Bodies and answers as pydantic models: bodies are checked by them, and /openapi.json is made of them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field

_SIM: dict[str, Any] = {
    "target": "How do I reset my password?",
    "texts": ["I forgot my password", "The weather is nice today"],
}
_PREDICT: dict[str, Any] = {"model": "minilm", "inputs": ["A first sentence.", "Und ein zweiter Satz."]}

_RERANK: dict[str, Any] = {
    "query": "When does the bridge open?",
    "texts": ["The bridge opens on Monday.", "The weather is nice today."],
    "top_k": 1,
}

# Only described here: the task refuses an empty text itself, and with it what its tokenizer makes nothing of.
Text = Annotated[str, Field(json_schema_extra={"minLength": 1})]
_SCORE: dict[str, Any] = {"targets": ["The bridge opens on Monday."], "predictions": ["The bridge opens Monday."]}


class Body(BaseModel):
    """A request's body: no key beyond those named, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SimBody(Body):
    """A text, and the texts to compare it with."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SIM]})

    target: Text
    texts: Annotated[list[Text], FailFast()] = Field(description="An empty list is answered by an empty list.")
    model: str | None = Field(None, description="`name`, `name@version` or `name@canary`; default: the server's.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="`truncate`: cut what is too long.")
    list_truncated: bool = Field(False, description="List in `context.truncated` what was cut, however many.")


class PredictBody(Body):
    """Inputs for one model; what an input is depends on the model's task, for most it is a text."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PREDICT]})

    model: str = Field(description="`name`, `name@version` or `name@canary`")
    inputs: Any = Field(description="One input or a list of them.", json_schema_extra={"not": {"type": "null"}})
    parameters: dict[str, Any] = Field(default_factory=dict, description="Of the task; unknown ones are refused.")
    stream: bool = Field(False, description="Of a task that generates: the answer as it grows, as server-sent events.")


class RerankBody(Body):
    """A query, and the texts to order by how well they answer it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RERANK]})

    query: Text
    texts: Annotated[list[Text], FailFast()] = Field(description="1 to 1,000.")
    model: str | None = Field(None, description="`name`, `name@version` or `name@canary`; default: the only reranker.")
    top_k: int | None = Field(None, ge=1, le=1000, description="Show so many of the best texts, best first.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="`truncate`: cut what is too long.")


class ScoreBody(Body):
    """Targets with the predictions to compare with them, or with a model and its inputs to predict first."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SCORE]})

    targets: Annotated[list[str], FailFast()]
    predictions: list[str] | None = None
    model: str | None = Field(None, description="One that predicts texts: `name`, `name@version` or `name@canary`")
    inputs: list[Any] | None = Field(None, description="One per target.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Of the model's task.")


class CacheQuery(BaseModel):
    """A misspelt `model` must not forget the answers of all models."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="A model's name; default: all models.")


class Scores(BaseModel):
    rouge1: float | None
    rouge2: float | None
    rougeL: float | None  # noqa: N815  the scores' own names
    rougeLsum: float | None  # noqa: N815
    bleu: float | None


class ScoreAnswer(BaseModel):
    scores: Scores = Field(description="Means over the items; null where there is none.")
    items: list[Scores] = Field(description="One per pair, in order.")
    model: str | None = Field(None, description="With version, digest and predictions if a model predicted.")
    version: str | None = None
    digest: str | None = None
    predictions: list[Any] | None = None


class CacheCleared(BaseModel):
    removed: int


class SimContext(BaseModel):
    target: str
    texts: list[str]
    sims: list[float] = Field(description="Cosine with the target, one per text, in order.")
    truncated: list[int | str] = Field([], description="Indices of texts that were cut, and `target`; where asked for.")


class SimAnswer(BaseModel):
    type: str = Field(json_schema_extra={"const": "sentence similarity"})
    context: SimContext


class Usage(BaseModel):
    tokens: int


class RankedText(BaseModel):
    index: int = Field(description="Counts the texts of the body.")
    score: float


class RerankAnswer(BaseModel):
    model: str
    version: str
    digest: str
    scores: list[float] = Field(description="One per text, in order.")
    top: list[RankedText] | None = Field(default=None, description="Best first; with `top_k`.")
    usage: Usage
    truncated: bool = Field(default=False, description="Whether the query or a text was cut; absent if not.")


class PredictAnswer(BaseModel):
    model: str
    version: str
    digest: str
    task: str
    predictions: list[Any] = Field(description="One per input, in order.")
    usage: Usage
    truncated: list[int] = Field(default=[], description="Indices of inputs that were cut; absent if none was.")


class VersionRef(BaseModel):
    model_config = ConfigDict(extra="allow")

    version: str
    digest: str


class RefusedVersion(BaseModel):
    version: str
    reason: str


class ModelState(BaseModel):
    """A model as this instance serves it."""

    model_config = ConfigDict(extra="allow")

    name: str
    task: str | None
    version: str | None
    digest: str | None
    state: str
    precision: str | None
    precision_reason: str | None = Field(description="Why that isn't the one that was asked for.")
    accuracy: dict[str, Any] | None = Field(
        description="What that precision costs beside float32, measured when the model was published."
    )
    memory_bytes: int | None
    previous: VersionRef | None
    canary: VersionRef | None
    refused: list[RefusedVersion]


class ModelDetails(ModelState):
    versions: list[Any]


class MountState(BaseModel):
    mounted: bool
    detail: str
    age_s: float | None = Field(description="Seconds since the shared file system was last looked at.")


class ModelList(BaseModel):
    models: list[ModelState]
    mount: MountState


class ModelPath(BaseModel):
    name: str = Field(description="The model's name.")


class Alive(BaseModel):
    status: str


class ReadinessState(BaseModel):
    ready: bool
    draining: bool
    models: dict[str, str] = Field(description="The verdict on each model, in words.")
    keys: str | None = Field(
        None,
        description="Where there are keys, or they are required: what the last look at keys.json found, ok or why not.",
    )


class IndexContext(BaseModel):
    message: str


class Index(BaseModel):
    type: str
    context: IndexContext


class Place(BaseModel):
    pointer: str = Field(description="RFC 6901 JSON pointer into the body.")
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[Place] = []


# Described as parameters, not as schemas.
PARTS_OF_ADDRESSES: tuple[type[BaseModel], ...] = (ModelPath, CacheQuery)
