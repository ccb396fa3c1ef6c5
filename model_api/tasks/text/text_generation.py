"""Task `text-generation`: a text or a conversation goes on, by a decoder (Llama, Qwen, Gemma, GPT-2, ...).

An input is a text, or a list of messages {"role", "content"} for a model with a chat template.

A prediction is {"text", "tokens", "finish_reason"}: what follows the input, how many tokens that took with the end
token, and "stop" or, where a limit of tokens cut it, "length". Greedy unless `temperature` (the request's, the
manifest's, or generation_config.json's) samples; with `seed` a sample can be had again.

The manifest's options: `generation` (defaults of the parameters), `precision` (int8 or float32), `engine`
("ctranslate2", or "transformers"), `truncate`, `max_tokens` (of an input with what follows it).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from model_api.errors import InvalidInput, Refused
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, Talk, Task, WebSide
from model_api.tasks.options import Options
from model_api.tasks.text.chat_template import has_template, settle_template
from model_api.tasks.text.conversations import check_conversation, is_conversation
from model_api.tasks.text.decoding_parameters import (
    Completion,
    DecodingParameters,
    read_decoding,
    read_defaults,
    search_of,
)
from model_api.tasks.text.encoding import Encoder, LocalEncoder
from model_api.tasks.text.growing_text import GrowingText
from model_api.tasks.text.sequence_to_sequence import loading_bytes, weights_type
from model_api.tasks.text.tokenization import Ids, TextTokenizer, check_text

ENGINES = ("ctranslate2", "transformers")
SEEDED_TOKENS = 64  # a seeded sample is drawn in stretches of so many, each with a seed of its own: it can pause there


class TextGenerationOptions(Options):
    precision: Literal["int8", "float32"] | None = Field(None, description="Type of the weights.")
    engine: Literal["ctranslate2", "transformers"] = Field("ctranslate2", description="What generates.")
    generation: dict[str, Any] = Field({}, description="Defaults of the request's parameters.")


class TextGenerationWeb(WebSide):
    """Web side. A row is [how many of its ids were generated already, its ids]."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        self._tokenizer = TextTokenizer(folder, manifest.options, limits)
        self._max_chars = limits.max_text_chars
        self._chats = has_template(folder)
        self._defaults = read_defaults(folder, manifest)

    def repeatable(self, parameters: Mapping[str, Any]) -> bool:
        temperature = parameters.get("temperature", self._defaults.parameters.get("temperature"))
        return not temperature or parameters.get("seed") is not None

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_decoding(parameters, self._defaults)
        room = self._tokenizer.max_tokens
        if is_conversation(inputs):  # one, given as it is
            found = [(self._chat_ids(inputs, pointer), pointer, True)]
        else:
            found = [self._ids(one, f"{pointer}/{index}") for index, one in enumerate(inputs)]
        rows, truncated = [], []
        for index, (ids, place, is_chat) in enumerate(found):
            if len(ids) >= room:
                _refuse_long(len(ids), room, place, read.truncate, is_chat)
                ids = ids[len(ids) - max(room // 2, room - read.max_new_tokens) :]
                truncated.append(index)
            rows.append(ids)
        arrays = [np.array([0, *ids], np.int32) for ids in rows]
        costs = [len(ids) + min(read.max_new_tokens, room - len(ids)) for ids in rows]
        search = search_of(read, self._defaults, room)
        return Prepared(arrays, costs, search, sum(map(len, rows)), truncated)

    def _ids(self, one: Any, place: str) -> tuple[Ids, str, bool]:
        """Of one input, its place, and whether it is a conversation."""
        if isinstance(one, list):
            return self._chat_ids(one, place), place, True
        check_text(one, place, self._max_chars)
        try:
            (ids,) = self._tokenizer.encode_whole([one], place)
        except InvalidInput as error:
            raise InvalidInput(str(error), place) from None
        return ids, place, False

    def _chat_ids(self, messages: Sequence[Any], place: str) -> Ids:
        if not messages:
            raise InvalidInput("a conversation has one message at least", place)
        check_conversation(messages, place, self._max_chars)
        if not self._chats:
            raise InvalidInput("this model has no chat template: send a text", place)
        try:
            ids = self._tokenizer.encode_chat(messages)
        except InvalidInput as error:
            raise InvalidInput(str(error), place) from None
        if not len(ids):
            raise InvalidInput("the model's chat template makes nothing of it", place)
        return ids

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        return [json.loads(output.tobytes()) for output in outputs]


def _refuse_long(n_tokens: int, room: int, place: str, truncate: bool, is_chat: bool) -> None:
    """Raises InvalidInput for what is too long and isn't to be cut; a conversation's beginning isn't to be lost."""
    what = "the conversation" if is_chat else "text"
    mend = '; shorten it or send "parameters": {"truncate": true}, which keeps its end' if not is_chat else ""
    if is_chat or not truncate:
        raise InvalidInput(f"{what} has {n_tokens} tokens, the model takes {room - 1} and what follows{mend}", place)


class TextGenerationModel(ModelSide):
    """Model side: of each row the prediction, as JSON in bytes; of one that was interrupted, the row to go on with."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.conversion import conversion_path
        from model_api.compute.decoding import Decoder, TransformersDecoder

        self.precision = checked_type(manifest, precision)
        self._folder = folder
        self._converted = conversion_path(folder, self.precision)
        self._encoder: Encoder = LocalEncoder(folder)
        self._decoder: Decoder | None = None
        self.fork_safe = not uses_ctranslate2(manifest, folder, self.precision)
        if self.fork_safe:
            self._decoder = TransformersDecoder(folder)
            self.precision = self._decoder.precision

    def after_fork(self) -> None:
        import torch

        from model_api.compute.decoding import CTranslate2Decoder, TransformersDecoder
        from model_api.compute.processor import available_cores, yield_the_processor

        yield_the_processor()
        torch.set_num_threads(available_cores())
        if self._decoder is None:
            self._decoder = CTranslate2Decoder(
                self._converted, self.precision, fall_back=lambda: TransformersDecoder(self._folder)
            )

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        return [self.run([array], parameters, Talk())[0][0] for array in arrays]

    def run(self, arrays: Sequence[Array], parameters: Mapping[str, Any], talk: Talk) -> tuple[Sequence[Array], bool]:
        """See ModelSide: one row at a time."""
        from model_api.compute.decoding import Decoding

        (row,) = arrays
        assert self._decoder is not None
        answer = _Answer(row.tolist(), Decoding.of(parameters), self._encoder, talk)
        answer.grow(self._decoder)
        if answer.paused:
            return [answer.row()], False
        return [np.frombuffer(json.dumps(answer.prediction()).encode(), np.uint8)], True


class _Answer:
    """One row on its way."""

    def __init__(self, row: list[int], how: Any, encoder: Encoder, talk: Talk) -> None:
        self._how, self._talk = how, talk
        self._n_prompt = len(row) - 1 - row[0]
        self._ids = row[1:]
        prompt = self._ids[: self._n_prompt]
        self._limit = min(how.max_new_tokens, how.max_length - self._n_prompt)
        self._growing = GrowingText(encoder.decode, prompt, how.stop)
        self.paused = False
        for token in self._generated():  # what an earlier forward told
            self._growing.add(token)

    def grow(self, decoder: Any) -> None:
        """Until it ends, or is interrupted."""
        how, seeded = self._how, self._how.seed is not None
        while not self._has_ended():
            done = len(self._generated())
            stretch = self._limit - done
            if seeded:
                stretch = min(stretch, SEEDED_TOKENS)
            self._wanted, self._heard = "", done
            seed = (how.seed + done * 2_654_435_761) % 2**31 if seeded else None
            new = decoder.generate(self._ids, done, stretch, how, seed, self._on_token)
            for token in new[self._heard - done :]:  # of a beam search all
                self._take(token)
            self._ids += new
            if (seeded and self._talk.wanted()) or self._wanted:
                self.paused = not self._has_ended()
                return

    def _on_token(self, token: int) -> bool:
        """Whether to end there."""
        self._heard += 1
        self._take(token)
        wanted = self._talk.wanted()
        # A sample that must come out the same again pauses between stretches alone.
        if wanted == "nobody" or (wanted and self._how.seed is None):
            self._wanted = wanted
        return self._growing.stopped or bool(self._wanted)

    def _take(self, token: int) -> None:
        begin = len(self._growing.text)
        more = "" if token in self._how.end_ids else self._growing.add(token)
        if more:
            self._talk.tell(more, begin)

    def _generated(self) -> list[int]:
        return self._ids[self._n_prompt :]

    def _has_ended(self) -> bool:
        new = self._generated()
        return self._growing.stopped or len(new) >= self._limit or (bool(new) and new[-1] in self._how.end_ids)

    def row(self) -> Array:
        """To go on with."""
        return np.array([len(self._generated()), *self._ids], np.int32)

    def prediction(self) -> dict[str, Any]:
        begin, new = len(self._growing.text), self._generated()
        more = self._growing.end()
        if more:
            self._talk.tell(more, begin)
        ended = self._growing.stopped or (bool(new) and new[-1] in self._how.end_ids)
        return {"text": self._growing.text, "tokens": len(new), "finish_reason": "stop" if ended else "length"}


def checked_type(manifest: Manifest, precision: str) -> str:
    """The weights' type that is served. Raises Refused for one that isn't known."""
    from model_api.compute.conversion import TYPES

    asked = weights_type(manifest, precision)
    if asked not in TYPES:
        raise Refused("manifest.json", f"precision {asked!r} is not served: {' or '.join(TYPES)}")
    return asked


def uses_ctranslate2(manifest: Manifest, folder: Path, weights: str) -> bool:
    """Whether CTranslate2 serves it; where that doesn't compute it as transformers does, transformers itself does."""
    from model_api.compute.decoder_conversion import why_not_converted

    return manifest.options.get("engine", ENGINES[0]) == ENGINES[0] and why_not_converted(folder, weights) is None


class TextGeneration(Task):
    parameters = DecodingParameters
    prediction = Completion
    options = TextGenerationOptions
    warm_inputs = ("warm", "The bridge over the river was closed on Monday, because engineers had found")
    warm_parameters: ClassVar[Mapping[str, Any]] = {"max_new_tokens": 4, "temperature": 0, "truncate": True}
    long_running = True
    interruptible = True
    compares_to_float32 = False

    def settle(self, folder: Path) -> None:
        settle_template(folder)

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> TextGenerationWeb:
        return TextGenerationWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> TextGenerationModel:
        return TextGenerationModel(folder, manifest, precision)

    def needs_conversion(self, folder: Path, manifest: Manifest, precision: str) -> bool:
        from model_api.compute.conversion import is_converted

        weights = checked_type(manifest, precision)
        return uses_ctranslate2(manifest, folder, weights) and not is_converted(folder, weights)

    def convert(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.decoder_conversion import convert

        convert(folder, checked_type(manifest, precision))

    def loading_bytes(self, folder: Path, manifest: Manifest, precision: str) -> int:
        return loading_bytes(folder, manifest, precision)


TASK = TextGeneration()
