"""Pipelines: a source that is read, sent through a model, scored and told of, once for each date.

[news]                                   # in the file that MODEL_API_PIPELINES names
source = "https://feeds.example.org/news.xml"
form = "feed"                            # csv, jsonl or feed (RSS, Atom)
model = "sentiment"
column = "text"                          # of a feed: text, title, id, link or published
reference = "label"                      # optional: a column with what is right, to score by
parameters = { top_k = 1 }
notify = "https://example.org/hook"      # or the ARN of an SNS topic
"""

import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_api.errors import InvalidInput, JobsDown
from model_api.jobs.uploads import CSV, JSON_LINES

DAILY = "daily"
MAX_AGE = timedelta(days=31)
TYPES: Mapping[str, str] = {"csv": CSV, "jsonl": JSON_LINES, "feed": JSON_LINES}


class Pipeline(BaseModel):
    """One of the file's tables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    form: Literal["csv", "jsonl", "feed"]
    model: str
    column: str = "text"
    reference: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    notify: str | None = None

    @property
    def content_type(self) -> str:
        return TYPES[self.form]


def read_pipelines(file: Path | None) -> dict[str, Pipeline]:
    """Raises JobsDown where the file is wrong: a pipeline that isn't understood is not left out silently."""
    if file is None:
        return {}
    try:
        document = tomllib.loads(file.read_text())
        return {name: Pipeline.model_validate(table) for name, table in document.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise JobsDown(f"{file} can't be read ({error})") from error
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise JobsDown(f"{file}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def pipeline_of(file: Path | None, name: str) -> Pipeline:
    """Raises InvalidInput, JobsDown."""
    found = read_pipelines(file)
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise InvalidInput(f"no pipeline {name[:64]!r}; there is {known}", "/pipeline")
    return found[name]


def checked_date(text: str | None, now: float) -> str:
    """That day, or today's, in UTC. Raises InvalidInput for what is no day, not yet come, or long past."""
    today = datetime.fromtimestamp(now, UTC).date()
    if text is None:
        return today.isoformat()
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InvalidInput("must be a day, as 2026-12-31", "/date") from None
    if not today - MAX_AGE <= day <= today:
        raise InvalidInput(f"must be one of the last {MAX_AGE.days} days", "/date")
    return day.isoformat()
