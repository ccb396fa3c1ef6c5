"""The parameters of tasks that generate text, with a model's own defaults."""

import secrets
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field

from model_api.errors import InvalidInput, Refused
from model_api.repository.generation_settings import GENERATION_FILE, GenerationSettings
from model_api.repository.manifest import Manifest
from model_api.tasks.parameters import TextParameters, pointer_to, read_parameters

MAX_NEW_TOKENS, MAX_BEAMS = 512, 8
_DEFAULT_NEW_TOKENS = 64


class GenerationParameters(TextParameters):
    num_beams: int = Field(1, ge=1, le=MAX_BEAMS, description="Beams of the search; 1 is greedy.")
    min_new_tokens: int = Field(0, ge=0, le=MAX_NEW_TOKENS)
    max_new_tokens: int = Field(_DEFAULT_NEW_TOKENS, ge=1, le=MAX_NEW_TOKENS)
    length_penalty: float = Field(1.0, ge=-5, le=5, description="Above 0 longer sequences win, below 0 shorter ones.")
    no_repeat_ngram_size: int = Field(0, ge=0, le=20, description="No sequence of so many tokens occurs twice.")
    repetition_penalty: float = Field(1.0, ge=0.1, le=10, description="Above 1 tokens that occurred become rarer.")
    early_stopping: bool | Literal["never"] = Field(
        True,
        description="Beams end once as many texts are complete as there are beams, or by transformers' other rules.",
    )
    temperature: float | None = Field(None, ge=0.05, le=5, description="Sample instead of searching.")
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="The same sample again; with temperature only.")


Kind = TypeVar("Kind", bound=GenerationParameters)


class Generated(BaseModel):
    """A generated text."""

    text: str
    tokens: int
    finish_reason: Literal["stop", "length"] = Field(description="`length` where max_new_tokens cut it.")


def generation_defaults(
    manifest: Manifest, settings: GenerationSettings, most_new_tokens: int | None
) -> Mapping[str, Any]:
    """The defaults of the manifest's `generation`, else of the model's own files, which may ask for more tokens than
    are generated at once. Raises Refused for one beyond the limits."""
    most = min(MAX_NEW_TOKENS, most_new_tokens or MAX_NEW_TOKENS)
    own = dict(settings.search)
    for name in ("max_new_tokens", "min_new_tokens"):
        if isinstance(own.get(name), int):
            own[name] = min(own[name], most)
    if isinstance(own.get("early_stopping"), int):
        own["early_stopping"] = bool(own["early_stopping"])  # JSON of old releases says 1
    own.setdefault("max_new_tokens", min(most, _DEFAULT_NEW_TOKENS))
    defaults = manifest.options.get("generation", {})
    try:
        given = {"truncate": bool(manifest.options.get("truncate", False)), **own, **defaults}
        for name in ("length_penalty", "repetition_penalty"):
            if isinstance(given.get(name), int) and not isinstance(given[name], bool):
                given[name] = float(given[name])
        read = read_parameters(GenerationParameters, given)
    except (InvalidInput, TypeError) as error:
        told = getattr(error, "pointer", "").rpartition("/")[2]
        file, what = (
            ("manifest.json", "generation: ")
            if not isinstance(defaults, dict) or told in defaults or not told
            else (GENERATION_FILE, "")
        )
        raise Refused(file, f"{what}{error}") from error
    if read.min_new_tokens > read.max_new_tokens:
        raise Refused(GENERATION_FILE, "its shortest text is longer than its longest")
    return read.model_dump()


def read_generation(
    parameters: Mapping[str, Any],
    defaults: Mapping[str, Any],
    most_new_tokens: int | None,
    kind: type[Kind],
) -> Kind:
    """What a request asks for, a seed drawn where it samples without one. Raises InvalidInput."""
    if parameters.get("temperature") is not None and "num_beams" not in parameters:
        defaults = {**defaults, "num_beams": 1}
    if "max_new_tokens" in parameters and "min_new_tokens" not in parameters:
        given = parameters["max_new_tokens"]  # the model's own shortest doesn't hold for who asks for less
        if isinstance(given, int) and given > 0:
            defaults = {**defaults, "min_new_tokens": min(given, defaults.get("min_new_tokens", 0))}
    read = read_parameters(kind, parameters, defaults)
    if most_new_tokens is not None and read.max_new_tokens > most_new_tokens:
        raise InvalidInput(f"the model generates {most_new_tokens} tokens at most", pointer_to("max_new_tokens"))
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


_NOT_OF_THE_SEARCH = frozenset({"truncate", "long_input", "src_lang", "tgt_lang"})


def search_of(parameters: Mapping[str, Any], settings: GenerationSettings) -> dict[str, Any]:
    """What the model side makes a Search of: a request's parameters, and what the model's own files fix."""
    search = {name: value for name, value in parameters.items() if name not in _NOT_OF_THE_SEARCH}
    search["temperature"] = search["temperature"] or 1.0
    return search | {
        "renormalize": settings.renormalize,
        "start_id": settings.start_id,
        "first_id": settings.forced_bos_id,
    }
