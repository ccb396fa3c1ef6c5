"""The parameters of the task text-generation, with a model's own defaults: its generation_config.json, then the
manifest's `generation`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from model_api.errors import InvalidInput, Refused
from model_api.repository.manifest import Manifest
from model_api.tasks.parameters import Parameters, check_defaults, pointer_to, read_parameters
from model_api.tasks.text.generation_parameters import MAX_BEAMS
from model_api.tasks.text.tokenization import read_json

MAX_NEW_TOKENS, DEFAULT_NEW_TOKENS = 4096, 256
MAX_STOPS = 8
CONFIG = "generation_config.json"
StopString = Annotated[str, Field(min_length=1, max_length=128)]
# Keys of generation_config.json that are parameters here; other keys are of no use to who answers, or are refused.
_READ = ("repetition_penalty", "no_repeat_ngram_size", "num_beams", "max_new_tokens", "min_new_tokens")
_READ_FOR_SAMPLING = ("temperature", "top_p", "top_k")
# What would change an answer and isn't served, with the values at which it changes none.
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("bad_words_ids", "force_words_ids", "constraints", "suppress_tokens", "sequence_bias"), ([], {})),
    **dict.fromkeys(("begin_suppress_tokens", "forced_decoder_ids", "watermarking_config"), ([], {})),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty"), ()),
    **dict.fromkeys(("penalty_alpha", "min_p", "epsilon_cutoff", "eta_cutoff", "diversity_penalty", "top_h"), (0,)),
    **dict.fromkeys(("typical_p", "guidance_scale", "num_beam_groups", "encoder_repetition_penalty"), (1,)),
    "encoder_no_repeat_ngram_size": (0,),
    "dola_layers": (),
    "token_healing": (False,),
}


class DecodingParameters(Parameters):
    max_new_tokens: int = Field(DEFAULT_NEW_TOKENS, ge=1, le=MAX_NEW_TOKENS, description="An answer ends there.")
    min_new_tokens: int = Field(0, ge=0, le=MAX_NEW_TOKENS, description="No answer ends before.")
    temperature: float | None = Field(None, ge=0, le=5, description="Sample; 0 takes the likeliest token each time.")
    top_p: float | None = Field(None, gt=0, le=1, description="Sample among the likeliest that together have so much.")
    top_k: int | None = Field(None, ge=0, le=1000, description="Sample among so many likeliest tokens; 0: among all.")
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="The same sample again.")
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOPS)] = Field(
        [], description="A text, or several: the answer ends before the first of them."
    )
    num_beams: int = Field(1, ge=1, le=MAX_BEAMS, description="Beams of the search; 1 is greedy.")
    repetition_penalty: float = Field(1.0, ge=0.5, le=3, description="Above 1, tokens that occurred are less likely.")
    no_repeat_ngram_size: int = Field(0, ge=0, le=20, description="No sequence of so many tokens occurs twice.")
    truncate: bool = Field(False, description="Of a text that is too long keep the end, instead of refusing it.")


class Completion(BaseModel):
    """A generated text."""

    text: str
    tokens: int = Field(description="Generated, an end token included.")
    finish_reason: Literal["stop", "length"] = Field(description="`length` where a limit of tokens cut it.")


@dataclass(frozen=True)
class Defaults:
    """What holds where a request says nothing, and the tokens that end an answer."""

    parameters: Mapping[str, Any]
    end_ids: tuple[int, ...]


def read_defaults(folder: Path, manifest: Manifest) -> Defaults:
    """Raises Refused for a generation_config.json that says what isn't served, and for defaults beyond the limits."""
    config, own = read_json(folder / "config.json", {}), read_json(folder / CONFIG, {})
    for key, neutral in _REFUSED.items():
        if own.get(key) is not None and own[key] not in neutral:
            raise Refused(CONFIG, f"{key} {str(own[key])[:40]} is not served: take it out if answers may do without it")
    given = {key: own[key] for key in _READ if own.get(key) is not None}
    if own.get("do_sample"):
        given["temperature"] = 1.0
        given |= {key: own[key] for key in _READ_FOR_SAMPLING if own.get(key) is not None}
    if own.get("stop_strings"):
        given["stop"] = own["stop_strings"]
    for key, value in given.items():  # 1 and 1.0 are the same to its library
        if isinstance(DecodingParameters.model_fields[key].default, float) and isinstance(value, int):
            given[key] = float(value)
    if isinstance(given.get("max_new_tokens"), int):
        given["max_new_tokens"] = min(given["max_new_tokens"], MAX_NEW_TOKENS)
    told = manifest.options.get("generation", {})
    if not isinstance(told, Mapping):
        raise Refused("manifest.json", "option generation: must be an object")
    given = {"truncate": bool(manifest.options.get("truncate", False)), **given, **told}
    ends = own.get("eos_token_id", config.get("eos_token_id"))
    listed = ends if isinstance(ends, list) else [ends]
    rows = config.get("vocab_size")
    rows = rows if isinstance(rows, int) else math.inf
    ids = tuple(i for i in listed if isinstance(i, int) and not isinstance(i, bool) and 0 <= i < rows)
    return Defaults(check_defaults(DecodingParameters, given), ids)


def read_decoding(parameters: Mapping[str, Any], defaults: Defaults) -> DecodingParameters:
    """What a request asks for. Raises InvalidInput."""
    read = read_parameters(DecodingParameters, parameters, defaults.parameters)
    if read.min_new_tokens > read.max_new_tokens:
        raise InvalidInput("min_new_tokens is more than max_new_tokens", pointer_to("min_new_tokens"))
    if not read.temperature:
        for name in ("top_p", "top_k"):  # a seed does no harm: the same comes again anyway
            if parameters.get(name) is not None:
                raise InvalidInput(f"{name} is for sampling; give temperature too", pointer_to(name))
    elif read.num_beams > 1:
        raise InvalidInput("temperature samples, which goes with num_beams 1 only", pointer_to("num_beams"))
    return read


def search_of(read: DecodingParameters, defaults: Defaults, max_length: int) -> dict[str, Any]:
    """As the model side takes it: compute.decoding.Decoding's fields."""
    fields = read.model_dump(exclude={"truncate"})
    fields |= {
        "temperature": read.temperature or 0.0,
        "top_p": 1.0 if read.top_p is None else read.top_p,
        "top_k": read.top_k or 0,
        "seed": read.seed if read.temperature else None,
        "stop": [read.stop] if isinstance(read.stop, str) else read.stop,
    }
    return {**fields, "max_length": max_length, "end_ids": list(defaults.end_ids)}
