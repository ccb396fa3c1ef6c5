"""A manifest's options: every one is known to its task, of the right type and within its limits, or no load begins.

Their names are in repository/known_tasks too, where an author's own machine checks them without any library.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_api.errors import Refused
from model_api.repository.known_tasks import did_you_mean
from model_api.repository.manifest import MANIFEST_NAME


class Options(BaseModel):
    """What every task knows. A task's own are in a subclass beside it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    max_batch_tokens: int | None = Field(None, ge=1, description="Tokens of one batch at most.")
    max_tokens: int | None = Field(None, ge=1, description="Tokens of one text at most, special ones included.")
    truncate: bool = Field(False, description="Cut over-long texts unless a caller says otherwise.")
    unload_first: bool = Field(False, description="If memory is short, unload what serves before the next loads.")


class EncoderOptions(Options):
    """What the tasks on an encoder know."""

    precision: Literal["auto", "float32", "bfloat16", "int8"] | None = Field(None, description="What it computes in.")
    int8_min_cosine: float | None = Field(None, ge=0, le=1, description="How near to float32 int8 has to come.")


Kind = TypeVar("Kind", bound=Options)


def read_options(kind: type[Kind], options: Mapping[str, Any]) -> Kind:
    """The options that hold. Raises Refused naming the manifest, the option, and what it may be."""
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            known = sorted(kind.model_fields)
            told = f"unknown option {name!r}{did_you_mean(name, known)}; this task knows: {', '.join(known)}"
        else:
            told = f"option {name}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        raise Refused(MANIFEST_NAME, told) from None
