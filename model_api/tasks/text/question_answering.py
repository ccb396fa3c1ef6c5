"""Task `question-answering`: where in a context the answer to a question stands.

An input is {"question", "context"}; its prediction the best span, {"score", "start", "end", "answer"}, with `top_k`
also "answers", best first. `start` and `end` count characters of the context. A long context is read by windows that
share `doc_stride` tokens; with `handle_impossible_answer` the answer may be "". As transformers' pipeline answered
until release 5 took it out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from model_api.errors import InvalidInput
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, WebSide
from model_api.tasks.options import EncoderOptions
from model_api.tasks.parameters import TextParameters, check_defaults, pointer_to, read_parameters
from model_api.tasks.text.answer_spans import ContextWindow, Rules, answers_of
from model_api.tasks.text.encoder_task import EncoderTask
from model_api.tasks.text.pair_frame import Ids, write_frame
from model_api.tasks.text.pairs import PairTokenizer
from model_api.tasks.text.tokenization import TextTokenizer
from model_api.tasks.text.tokenizer_facts import read_facts, write_facts
from model_api.tasks.text.windows import check_windows, windows_of

USUAL_TOKENS = 384  # of a window, question included: what such models are trained with
USUAL_STRIDE = 128


class AnsweringOptions(EncoderOptions):
    handle_impossible_answer: bool = Field(False, description="What holds where a caller doesn't say.")


class AnsweringParameters(TextParameters):
    truncate: bool = Field(False, description="Cut questions that leave the context no room, instead of refusing.")
    top_k: int | None = Field(None, ge=1, le=100, description="Show so many of the best answers, best first.")
    doc_stride: int | None = Field(
        None, ge=0, le=100_000, description="How many tokens neighbouring windows of a long context share."
    )
    max_seq_len: int | None = Field(
        None, ge=8, le=100_000, description="Tokens of a window, with the question. Default: 384, or the model's most."
    )
    max_answer_len: int = Field(15, ge=1, le=1000, description="Tokens of an answer at most.")
    handle_impossible_answer: bool = Field(False, description='Whether there may be no answer: "".')
    align_to_words: bool = Field(True, description="Answers are whole words, where the tokenizer knows words.")


class AnswerSpan(BaseModel):
    """`start` and `end` count characters of the context."""

    score: float
    start: int
    end: int
    answer: str


class ContextAnswer(AnswerSpan):
    """The best answer."""

    answers: list[AnswerSpan] | None = Field(None, description="Best first, with top_k.")


class AnsweringWeb(WebSide):
    """Web side. A row is a question with a window of its context: [2, length], ids and token types."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        self._tokenizer = TextTokenizer(folder, manifest.options, limits)
        self._pairs = PairTokenizer(self._tokenizer, folder)
        self._facts = read_facts(folder)
        options = manifest.options
        names = ("truncate", "handle_impossible_answer")
        self._defaults = check_defaults(AnsweringParameters, {name: bool(options.get(name)) for name in names})

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_parameters(AnsweringParameters, parameters, self._defaults)
        most = self._tokenizer.max_tokens
        if read.max_seq_len is not None and read.max_seq_len > most:
            raise InvalidInput(f"max_seq_len is {read.max_seq_len}, the model takes {most}", pointer_to("max_seq_len"))
        rows: list[Array] = []
        windows: list[list[ContextWindow]] = []
        truncated: list[int] = []
        for index, one in enumerate(inputs):
            place = f"{pointer}/{index}"
            if not isinstance(one, dict) or one.keys() != {"question", "context"}:
                raise InvalidInput('must be {"question": a text, "context": a text}', place)
            question, was_cut = self._question(one["question"], read, f"{place}/question")
            truncated += [index] * was_cut
            of_input, its_rows = self._windows(question, one["context"], read, f"{place}/context")
            windows.append(of_input)
            rows += its_rows
            check_windows(len(rows), f"{place}/context")
        rules = Rules(read.top_k or 1, read.max_answer_len, read.handle_impossible_answer, read.align_to_words)
        costs = [row.shape[1] for row in rows]
        texts = [one["context"] for one in inputs]
        return Prepared(rows, costs, {}, sum(costs), truncated, context=(texts, windows, rules, read.top_k is not None))

    def _room(self, read: AnsweringParameters) -> int:
        """Tokens of a window, special ones taken off."""
        most = self._tokenizer.max_tokens
        return (read.max_seq_len or min(USUAL_TOKENS, most)) - (most - self._pairs.room)

    def _question(self, question: Any, read: AnsweringParameters, place: str) -> tuple[Ids, bool]:
        (ids,) = self._tokenizer.encode_bare([question], [place])
        room = self._room(read)
        if len(ids) < room:
            return ids, False
        kept = room - max(1, room // 4)
        if not read.truncate or kept < 1:
            told = f"the question has {len(ids)} tokens, of the {max(room, 0)} that a window has for both texts"
            raise InvalidInput(f'{told}; shorten it or send "parameters": {{"truncate": true}}', place)
        return ids[:kept], True

    def _windows(
        self, question: Ids, context: Any, read: AnsweringParameters, place: str
    ) -> tuple[list[ContextWindow], list[Array]]:
        (located,) = self._tokenizer.locate([context], [place])
        start, end = located.inner()
        size = self._room(read) - len(question)
        usual = min((read.max_seq_len or min(USUAL_TOKENS, self._tokenizer.max_tokens)) // 2, USUAL_STRIDE)
        stride = read.doc_stride if read.doc_stride is not None else usual if usual < size else size // 2
        if stride >= size:
            told = f"doc_stride must be less than {size}, which is what one window holds of this context"
            raise InvalidInput(told, pointer_to("doc_stride"))
        windows, rows = [], []
        frame = self._pairs.frame
        before = len(frame.before[0]) + len(question) + len(frame.between[0])
        for first, last in windows_of(end - start, size, stride):
            row = frame.put(question, located.ids[start + first : start + last])
            cls = tuple(np.flatnonzero(row[0] == self._facts.cls_id).tolist()) if self._facts.cls_id is not None else ()
            windows.append(ContextWindow(located, start + first, start + last, before, cls))
            rows.append(row)
        return windows, rows

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        texts, windows, rules, shows_all = prepared.context
        predictions, first = [], 0
        for text, of_text in zip(texts, windows, strict=True):
            found = answers_of(text, of_text, outputs[first : first + len(of_text)], rules)
            first += len(of_text)
            best = found[0] if found else {"score": 0.0, "start": 0, "end": 0, "answer": ""}
            predictions.append({**best, "answers": found} if shows_all else best)
        return predictions


class AnsweringModel(ModelSide):
    """Model side: float32 logits [length, 2] per row, of where an answer begins and ends."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.token_head import load_token_head

        self._head, self.precision_reason = load_token_head(folder, precision, "question-answering", 2, pairs=True)
        self.precision = self._head.precision

    def warm(self) -> None:
        self._head.warm()

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        return self._head.logits(arrays)


class QuestionAnswering(EncoderTask):
    parameters = AnsweringParameters
    prediction = ContextAnswer
    options = AnsweringOptions
    warm_inputs = (
        {"question": "When?", "context": "warm"},
        {"question": "When does the bridge open?", "context": "The bridge opens on Monday, the mayor said. " * 20},
        {"question": "東京?", "context": "naïve café, 東京, 🙂 and 1,234.56 in one text"},
    )
    warm_parameters: ClassVar[Mapping[str, Any]] = {"truncate": True}

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> AnsweringWeb:
        return AnsweringWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> AnsweringModel:
        return AnsweringModel(folder, manifest, precision)

    def settle(self, folder: Path) -> None:
        write_frame(folder)
        write_facts(folder)


TASK = QuestionAnswering()
