"""The parameters of tasks that generate text, with a model's own defaults."""

import secrets
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from model_api.errors import InvalidInput, Refused
from model_api.repository.manifest import Manifest
from model_api.tasks.parameters import TextParameters, pointer_to, read_parameters

MAX_NEW_TOKENS, MAX_BEAMS = 512, 8


class GenerationParameters(TextParameters):
    num_beams: int = Field(1, ge=1, le=MAX_BEAMS, description="Beams of the search; 1 is greedy.")
    min_new_tokens: int = Field(0, ge=0, le=MAX_NEW_TOKENS)
    max_new_tokens: int = Field(64, ge=1, le=MAX_NEW_TOKENS)
    length_penalty: float = Field(1.0, ge=-5, le=5, description="Above 0 longer sequences win, below 0 shorter ones.")
    no_repeat_ngram_size: int = Field(0, ge=0, le=20, description="No sequence of so many tokens occurs twice.")
    temperature: float | None = Field(None, ge=0.05, le=5, description="Sample instead of searching.")
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="The same sample again; with temperature only.")


class Generated(BaseModel):
    """A generated text."""

    text: str
    tokens: int
    finish_reason: Literal["stop", "length"] = Field(description="`length` where max_new_tokens cut it.")


def generation_defaults(manifest: Manifest) -> Mapping[str, Any]:
    """The defaults of the manifest's `generation`. Raises Refused for one beyond the limits."""
    defaults = manifest.options.get("generation", {})
    try:
        given = {"truncate": bool(manifest.options.get("truncate", False)), **defaults}
        return read_parameters(GenerationParameters, given).model_dump()
    except (InvalidInput, TypeError) as error:
        raise Refused("manifest.json", f"generation: {error}") from error


def read_generation(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> GenerationParameters:
    """What a request asks for, a seed drawn where it samples without one. Raises InvalidInput."""
    read = read_parameters(GenerationParameters, parameters, defaults)
    if read.min_new_tokens > read.max_new_tokens:
        raise InvalidInput("min_new_tokens is more than max_new_tokens", pointer_to("min_new_tokens"))
    if read.temperature is None and read.seed is not None:
        raise InvalidInput("seed is for sampling; give temperature too", pointer_to("seed"))
    if read.temperature is not None and read.num_beams > 1:
        raise InvalidInput("temperature samples, which goes with num_beams 1 only", pointer_to("num_beams"))
    seed = secrets.randbelow(2**31) if read.temperature is not None and read.seed is None else read.seed
    return read.model_copy(update={"seed": seed, "temperature": read.temperature or 1.0})


def is_repeatable(parameters: Mapping[str, Any]) -> bool:
    """Whether the same request gives the same answer, so that one may stand for another."""
    return parameters.get("temperature") is None or parameters.get("seed") is not None
