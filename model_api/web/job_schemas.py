"""Bodies and answers of jobs and uploads, as web/schemas.py has the others."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_api.web.schemas import Body

_EXAMPLE: dict[str, Any] = {"kind": "predict", "model": "minilm", "inputs": ["A first sentence."]}


class JobBody(Body):
    """Work for later. What /predict, /sim or /score takes stands beside `kind`, or under `inputs`; `file` takes an
    upload, and the `column` to predict among its parameters; `video-regression` the upload of a video."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    kind: str = Field(description="`predict`, `sim`, `score`, `file`, `daily`, or the task of the model.")
    model: str | None = None
    inputs: Any = Field(None, description="As /predict has it; of `sim` and `score` an object with the rest of theirs.")
    parameters: dict[str, Any] = Field(default_factory=dict)
    upload: str | None = Field(None, description="The id of an upload, for `file` and `video-regression`.")
    pipeline: str | None = Field(None, description="The name of a pipeline, for `daily`.")
    date: str | None = Field(None, description="Of `daily`: the day, as 2026-12-31. Default: today, in UTC.")
    target: str | None = None
    texts: list[Any] | None = None
    targets: list[Any] | None = None
    predictions: list[Any] | None = None
    ttl_s: float | None = Field(
        None, ge=1, le=30 * 86400, description="Seconds for which the job is kept; default: the server's."
    )
    notify: str | None = Field(None, description="A URL that is told when the job is over.")


class FileBody(Body):
    """A whole file through a model."""

    model: str
    upload: str = Field(pattern="^[0-9a-f]{64}$")
    parameters: dict[str, Any] = Field(default_factory=dict)


class VideoBody(Body):
    """A video through a model for videos; without `model` the server's."""

    model: str | None = None
    upload: str = Field(pattern="^[0-9a-f]{64}$")
    parameters: dict[str, Any] = Field(default_factory=dict)


class UploadBody(Body):
    """What will be sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"content_type": "text/csv", "size": 14}]})

    content_type: str = Field(description="text/csv, application/jsonl, video/mp4, video/quicktime or video/x-msvideo")
    size: int | None = Field(None, ge=1, description="Exactly so many bytes; default: whatever comes, up to the limit.")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    method: Literal["PUT", "POST"] = Field(
        "PUT", description="`POST`: by a form, where a bucket takes it. The answer's `method` is what to do."
    )
    job: dict[str, Any] | None = Field(None, description="As POST /jobs has it, to start when the bytes are there.")


class UploadAddress(BaseModel):
    id: str
    method: str
    url: str = Field(description="Good until `expires`.")
    headers: dict[str, str] | None = Field(None, description="To send with the bytes, by PUT.")
    fields: dict[str, str] | None = Field(None, description="Of the form, before `file`, by POST.")
    expires: str


class VideoType(BaseModel):
    type: str = Field("mp4", pattern="^(mp4|mov|avi)$", description="mp4, mov or avi")


class VideoKey(BaseModel):
    x: str = Field(pattern=r"^[0-9a-f]{64}(\.(mp4|mov|avi))?$", description="`Key` of GET /uploads.")


class VideoUpload(BaseModel):
    uploadURL: str = Field(description="Where to PUT the video, for an hour.")  # noqa: N815 - its callers' name
    Key: str = Field(description="What GET /fetch asks by.")


class UploadState(BaseModel):
    id: str
    status: str = Field(description="waiting, accepted or expired")
    content_type: str
    size: int | None
    sha256: str | None
    expires: str | None
    job: str | None = Field(None, description="The id of the job that it started.")
    job_error: dict[str, Any] | None = Field(None, description="Why it started none; ask with POST /jobs.")


class UploadPath(BaseModel):
    id: str = Field(description="The upload's id.")


class JobPath(BaseModel):
    id: str = Field(description="The job's id.")


class JobQuery(BaseModel):
    wait: float = Field(0, ge=0, le=3600, description="Seconds to wait for the job's end; 60 at most are waited.")


class JobsQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    status: str | None = Field(None, pattern="^(queued|running|succeeded|failed|cancelled|expired)$")
    kind: str | None = Field(None, max_length=64)
    after: str | None = Field(None, max_length=256, description="`next` of the page before.")
    limit: int = Field(50, ge=1, le=200)


class JobProgress(BaseModel):
    done: int
    total: int
    unit: str
    errors: int | None = Field(None, description="Rows of a file with an error of their own, once all are done.")


class JobState(BaseModel):
    """A job. Moments are RFC 3339 in UTC."""

    model_config = ConfigDict(extra="allow")

    id: str
    kind: str
    status: str = Field(description="queued, running, succeeded, failed, cancelled or expired")
    progress: JobProgress
    attempts: int
    model: str | None
    version: str | None
    digest: str | None = Field(description="Of the weights that gave the result; before that, of those asked for.")
    created: str
    started: str | None
    finished: str | None
    expires: str | None = Field(description="null while it runs")
    result: Any = Field(None, description="What the route would have answered, up to 64 KB of it.")
    result_url: str | None = Field(None, description="Where a larger result is.")
    error: dict[str, Any] | None = Field(None, description="The problem that ended it, or the attempt before.")


class JobList(BaseModel):
    jobs: list[JobState] = Field(description="Newest first, without results.")
    next: str | None = Field(description="For `after`; null on the last page.")


# Described as parameters, not as schemas.
PARTS_OF_ADDRESSES: tuple[type[BaseModel], ...] = (
    UploadPath,
    JobPath,
    JobQuery,
    JobsQuery,
    VideoType,
    VideoKey,
)
