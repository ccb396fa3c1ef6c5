"""Task `summarization`: articles to summaries, by a T5-family model.

A prediction is {"text", "tokens", "finish_reason"}: the generated tokens, and "stop" or, where `max_new_tokens` cut
it, "length". Deterministic unless `temperature` is given, which samples; with `seed` a sample can be had again.

The manifest's options: `prefix` (put before every article; default: the config's own for summarization, else none),
`generation` (defaults of the parameters), `precision` (int8 or float32), `engine` ("ctranslate2", or "transformers"),
`truncate`, `max_tokens` (of an article with its prefix).
"""

import os
import secrets
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_api.errors import InvalidInput, LoadFailed, Refused
from model_api.manifest import Manifest
from model_api.tasks import Array, Limits, Prepared
from model_api.tasks.parameters import TRUNCATE, Parameter, pointer_to, read_parameters
from model_api.tokenization import TextTokenizer, check_text, read_json

WARM_INPUTS: Sequence[Any] = (
    "warm",
    "The bridge over the river was closed on Monday. Engineers had found cracks in two of its pillars. " * 3,
)
LONG_RUNNING = True  # see tasks.TaskModule
COMPARES_TO_FLOAT32 = False
MAX_NEW_TOKENS, MAX_BEAMS = 512, 8


def read_parameter_defaults(manifest: Manifest) -> dict[str, Parameter]:
    """What a caller may ask for, with the manifest's defaults. Raises Refused for a default beyond the limits."""
    parameters = {
        "num_beams": Parameter(int, 1, 1, MAX_BEAMS),
        "min_new_tokens": Parameter(int, 0, 0, MAX_NEW_TOKENS),
        "max_new_tokens": Parameter(int, 64, 1, MAX_NEW_TOKENS),
        "length_penalty": Parameter(float, 1.0, -5, 5),
        "no_repeat_ngram_size": Parameter(int, 0, 0, 20),
        "temperature": Parameter(float, None, 0.05, 5),
        "seed": Parameter(int, None, 0, 2**31 - 1),
        "truncate": Parameter(bool, bool(manifest.options.get("truncate", TRUNCATE.default))),
    }
    defaults = manifest.options.get("generation", {})
    try:
        return {
            name: Parameter(spec.kind, value, spec.low, spec.high)
            for (name, spec), value in zip(
                parameters.items(), read_parameters(defaults, parameters).values(), strict=True
            )
        }
    except (InvalidInput, AttributeError, TypeError) as error:
        raise Refused("manifest.json", f"generation: {error}") from error


class SummarizationWeb:
    """Web side. A row is an article with its prefix; `context` is the longest that a summary may be, in tokens."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        config = read_json(folder / "config.json", {})
        own = (config.get("task_specific_params") or {}).get("summarization", {})
        self._prefix = str(manifest.options.get("prefix", own.get("prefix", "")))
        self._tokenizer = TextTokenizer(folder, manifest.options, limits.max_text_chars + len(self._prefix))
        self._limits = limits
        self._parameters = read_parameter_defaults(manifest)
        self._end_id = config.get("eos_token_id", 1)

    def repeatable(self, parameters: Mapping[str, Any]) -> bool:
        """Whether the same request gives the same answer, so that one may stand for another."""
        return parameters.get("temperature") is None or parameters.get("seed") is not None

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_parameters(parameters, self._parameters)
        self._check_together(read)
        for index, text in enumerate(inputs):
            check_text(text, f"{pointer}/{index}", self._limits.max_text_chars)
        tokens = self._tokenizer.encode([self._prefix + text for text in inputs], pointer, read.pop("truncate"))
        if read["temperature"] is not None and read["seed"] is None:
            read["seed"] = secrets.randbelow(2**31)
        read["temperature"] = read["temperature"] or 1.0
        n_tokens = sum(len(ids) for ids in tokens.ids)
        costs = [len(ids) + read["max_new_tokens"] for ids in tokens.ids]
        return Prepared(tokens.ids, costs, read, n_tokens, tokens.truncated)

    def _check_together(self, read: Mapping[str, Any]) -> None:
        if read["min_new_tokens"] > read["max_new_tokens"]:
            raise InvalidInput("min_new_tokens is more than max_new_tokens", pointer_to("min_new_tokens"))
        if read["temperature"] is None and read["seed"] is not None:
            raise InvalidInput("seed is for sampling; give temperature too", pointer_to("seed"))
        if read["temperature"] is not None and read["num_beams"] > 1:
            raise InvalidInput("temperature samples, which goes with num_beams 1 only", pointer_to("num_beams"))

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        return [self._prediction(output) for output in outputs]

    def _prediction(self, output: Array) -> dict[str, Any]:
        ids = output.tolist()
        ended = bool(ids) and ids[-1] == self._end_id
        text = self._tokenizer.decode(ids).strip()
        return {"text": text, "tokens": len(ids), "finish_reason": "stop" if ended else "length"}


class SummarizationModel:
    """Model side: generated token ids per row.

    CTranslate2 can't be used in a process that forks, as the leader does after its checks: until `after_fork` a child
    generates for us, and `before_lanes` ends it.
    """

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.conversion import TYPES, NotConvertible, converted_folder
        from model_api.generation import Generator, TransformersGenerator

        asked = weights_type(manifest, precision)
        engine = manifest.options.get("engine", "ctranslate2")
        if asked not in TYPES or engine not in ("ctranslate2", "transformers"):
            raise Refused("manifest.json", f"precision {asked!r} with engine {engine!r} is not served")
        self._generator: Generator | None = None
        self._trial: tuple[int, socket.socket] | None = None
        self.precision = asked
        try:
            if engine == "transformers":
                raise NotConvertible
            self._converted = converted_folder(folder, asked)
        except NotConvertible:
            self._generator = TransformersGenerator(folder)
            self.precision = self._generator.precision

    def warm(self) -> None:
        """Nothing that lanes could share: CTranslate2 begins after the fork."""

    def after_fork(self) -> None:
        """In a lane, once."""
        from model_api.generation import CTranslate2Generator, yield_the_processor

        yield_the_processor()
        if self._generator is None:
            self._generator = CTranslate2Generator(self._converted, self.precision)

    def before_lanes(self) -> None:
        """In the leader, when its checks are done."""
        if self._trial is not None:
            pid, connection = self._trial
            self._trial = None
            connection.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        from model_api.generation import Search

        if self._generator is None:
            return self._forward_in_child(arrays, parameters)
        return self._generator.generate(arrays, Search.of(parameters))

    def _forward_in_child(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        from model_api import messages
        from model_api.forking import fork_child
        from model_api.lane_process import run_lane

        if self._trial is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._trial = fork_child(lambda: run_lane(theirs, self)), ours
        _, connection = self._trial
        try:
            messages.send(connection, {"parameters": parameters}, arrays)
            header, outputs = messages.receive(connection)
        except OSError as error:
            raise LoadFailed("the trial run ended without an answer (out of memory?)") from error
        if "error" in header:
            raise LoadFailed(f"the trial run failed: {header['error']}")
        return [np.asarray(output) for output in outputs]


def weights_type(manifest: Manifest, precision: str) -> str:
    """What the manifest asks for, else what the instance's `precision` comes to."""
    return str(manifest.options.get("precision", "float32" if precision == "float32" else "int8"))


def loading_bytes(folder: Path, manifest: Manifest, precision: str) -> int:
    """See tasks.TaskModule: a conversion that lies there already needn't be paid for again."""
    from model_api import conversion

    weights = weights_type(manifest, precision)
    made = conversion.loading_bytes(folder, weights) if weights in conversion.TYPES else None
    return manifest.memory_bytes if made is None else min(made, manifest.memory_bytes)


def open_web(folder: Path, manifest: Manifest, limits: Limits) -> SummarizationWeb:
    return SummarizationWeb(folder, manifest, limits)


def load_model(folder: Path, manifest: Manifest, precision: str) -> SummarizationModel:
    return SummarizationModel(folder, manifest, precision)
