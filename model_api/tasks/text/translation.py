"""Task `translation`: texts from one language into another, by a sequence-to-sequence model.

Languages are chosen by `src_lang` and `tgt_lang`, in the model's own codes: NLLB's eng_Latn, mBART's en_XX, M2M100's
en, a multilingual Marian's target (fra), and of a T5 the pairs for which its config.json has a prefix. A prediction is
{"text", "tokens", "finish_reason"}, as of summarization.

The manifest's options: `src_lang` and `tgt_lang` (what holds where a request names none), `prefix` (put before every
text), `generation`, `precision`, `engine`, `truncate`, `max_tokens`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from model_api.errors import InvalidInput, Refused
from model_api.repository.manifest import MANIFEST_NAME, Manifest
from model_api.tasks.contract import Array, Limits, Prepared
from model_api.tasks.parameters import pointer_to
from model_api.tasks.text.generation_parameters import GenerationParameters, read_generation, search_of
from model_api.tasks.text.languages import read_languages, settle_languages
from model_api.tasks.text.sequence_to_sequence import (
    SequenceToSequence,
    SequenceToSequenceOptions,
    SequenceToSequenceWeb,
)
from model_api.tasks.text.tokenization import check_text

_PAIR = re.compile(r"translation_(\w+)_to_(\w+)")
_LONGEST_PREFIX = 200  # characters


class TranslationParameters(GenerationParameters):
    src_lang: str | None = Field(None, max_length=40, description="Language of the texts, in the model's own code.")
    tgt_lang: str | None = Field(None, max_length=40, description="Language to translate into, likewise.")


class TranslationOptions(SequenceToSequenceOptions):
    src_lang: str | None = Field(None, description="Language of the texts, where a request names none.")
    tgt_lang: str | None = Field(None, description="Language to translate into, likewise.")


class TranslationWeb(SequenceToSequenceWeb):
    """Web side. A row is a text with its prefix and language; `context` is the longest that a translation may be, in
    tokens."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        super().__init__(folder, manifest, limits, more_chars=_LONGEST_PREFIX)
        self._languages = read_languages(folder)
        self._prefixes = self._pairs()
        self._prefix = manifest.options.get("prefix")
        self._own = {name: manifest.options.get(name) for name in ("src_lang", "tgt_lang")}
        try:
            for name, code in self._own.items():
                if code is not None and not self._prefixes:
                    self._languages.check(code, name)
        except InvalidInput as error:
            raise Refused(MANIFEST_NAME, f"option {error.pointer.rpartition('/')[2]}: {error}") from None

    def _pairs(self) -> dict[tuple[str, str], str]:
        """A T5's prefixes by (from, into)."""
        tasks = self.config.get("task_specific_params")
        found = {}
        for name, task in (tasks if isinstance(tasks, dict) else {}).items():
            pair = _PAIR.fullmatch(name)
            if pair and isinstance(task, dict) and task.get("prefix"):
                found[pair[1], pair[2]] = str(task["prefix"])[:_LONGEST_PREFIX]
        return found

    def warm_parameters(self) -> Mapping[str, Any]:
        """Any language will do."""
        if self._languages.ids and self._own["tgt_lang"] is None:
            return {"tgt_lang": next(iter(self._languages.ids))}
        if self._prefixes and self._prefix is None and None in self._own.values():
            return dict(zip(("src_lang", "tgt_lang"), next(iter(self._prefixes)), strict=True))
        return {}

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_generation(parameters, {**self.defaults, **self._own}, self.most_new_tokens, TranslationParameters)
        for index, text in enumerate(inputs):
            check_text(text, f"{pointer}/{index}", self.limits.max_text_chars)
        prefix = self._prefix_for(read)
        tokens = self.tokenizer.encode([prefix + text for text in inputs], pointer, read.truncate)
        search = search_of(read.model_dump(), self.settings) | self._into(read)
        rows = [self._from(read, row) for row in tokens.ids]
        n_tokens = sum(len(ids) for ids in rows)
        costs = [len(ids) + read.max_new_tokens for ids in rows]
        return Prepared(rows, costs, search, n_tokens, tokens.truncated, context=read.max_new_tokens)

    def _prefix_for(self, read: TranslationParameters) -> str:
        """What the texts begin with: a T5's words, or the token of a Marian's language. Raises InvalidInput."""
        if self._prefix is not None:
            return str(self._prefix)
        languages = self._languages
        if languages.written and not languages.ids:
            if read.tgt_lang is None:
                return ""  # callers may write it themselves, as they do for transformers
            return f"{languages.written[languages.check(read.tgt_lang, 'tgt_lang')]} "
        if languages.ids or not self._prefixes:
            return ""
        if read.src_lang is None and read.tgt_lang is None and len(self._prefixes) == 1:
            return next(iter(self._prefixes.values()))
        prefix = self._prefixes.get((str(read.src_lang), str(read.tgt_lang)))
        if prefix is None:
            known = ", ".join(f"{a} to {b}" for a, b in sorted(self._prefixes))
            raise InvalidInput(f"name src_lang and tgt_lang; the model translates {known}", pointer_to("tgt_lang"))
        return prefix

    def _into(self, read: TranslationParameters) -> dict[str, int]:
        """What a translation begins with, where the language's token says it. Raises InvalidInput."""
        if not self._languages.ids:
            if read.tgt_lang is not None and not self._prefixes and not self._languages.written:
                self._languages.check(read.tgt_lang, "tgt_lang")
            return {}
        starts_with_it = self.settings.start_id in self._languages.ids.values()  # mBART of 25 languages
        if read.tgt_lang is None:
            if starts_with_it or self.settings.forced_bos_id is not None:
                return {}
            raise InvalidInput("name the language to translate into", pointer_to("tgt_lang"))
        token = self._languages.ids[self._languages.check(read.tgt_lang, "tgt_lang")]
        return {"start_id": token} if starts_with_it else {"first_id": token}

    def _from(self, read: TranslationParameters, row: Array) -> Array:
        """The row with the token of its language in place of the tokenizer's own. Raises InvalidInput."""
        if read.src_lang is None or (self._prefixes and not self._languages.ids):
            return row
        if not self._languages.ids:
            self._languages.check(read.src_lang, "src_lang")
            return row
        token = self._languages.ids[self._languages.check(read.src_lang, "src_lang")]
        own = list(self._languages.ids.values())
        at = next((i for i in (0, len(row) - 1) if row[i] in own), None)
        if at is None:
            raise InvalidInput("the model's tokenizer marks no language of a text", pointer_to("src_lang"))
        changed = np.array(row)
        changed[at] = token
        return changed

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        return list(self.predictions(outputs, prepared.context))


class Translation(SequenceToSequence):
    parameters = TranslationParameters
    options = TranslationOptions
    warm_inputs = ("warm", "The bridge over the river was closed on Monday. Engineers had found cracks in it.")

    def settle(self, folder: Path) -> None:
        settle_languages(folder)

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> TranslationWeb:
        return TranslationWeb(folder, manifest, limits)


TASK = Translation()
