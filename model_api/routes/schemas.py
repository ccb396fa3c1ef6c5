"""Bodies and answers as pydantic models: bodies are checked by them, and /openapi.json is made of them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field

_SIM: dict[str, Any] = {
    "target": "How do I reset my password?",
    "texts": ["I forgot my password", "The weather is nice today"],
}
_PREDICT: dict[str, Any] = {"model": "minilm", "inputs": ["A first sentence.", "Und ein zweiter Satz."]}

# Only described here: the task refuses an empty text itself, and with it what its tokenizer makes nothing of.
Text = Annotated[str, Field(json_schema_extra={"minLength": 1})]


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


class PredictBody(Body):
    """Inputs for one model; what an input is depends on the model's task, for most it is a text."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PREDICT]})

    model: str = Field(description="`name`, `name@version` or `name@canary`")
    inputs: Any = Field(description="One input or a list of them.", json_schema_extra={"not": {"type": "null"}})
    parameters: dict[str, Any] = Field(default_factory=dict, description="Of the task; unknown ones are refused.")


class SimContext(BaseModel):
    target: str
    texts: list[str]
    sims: list[float] = Field(description="Cosine with the target, one per text, in order.")


class SimAnswer(BaseModel):
    type: str = Field(json_schema_extra={"const": "sentence similarity"})
    context: SimContext


class Usage(BaseModel):
    tokens: int


class PredictAnswer(BaseModel):
    model: str
    version: str
    digest: str
    task: str
    predictions: list[Any] = Field(description="One per input, in order.")
    usage: Usage
    truncated: list[int] = Field(default=[], description="Indices of inputs that were cut; absent if none was.")


class Ref(BaseModel):
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
    memory_bytes: int | None
    previous: Ref | None
    canary: Ref | None
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
