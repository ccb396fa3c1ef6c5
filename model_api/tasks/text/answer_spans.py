"""From the logits of tokens to the answers in a context: what transformers' pipeline of releases before 5 published.

In every window the probabilities of where an answer begins and ends are taken over the context's tokens and [CLS],
whose own are those of "no answer". A span's score is the product of both; spans of several windows, and those that read
alike, are put together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_api.tasks.contract import Array
from model_api.tasks.text.encoding import LocatedText

_BEYOND = -10_000.0  # the logit of a token that can't be part of an answer


@dataclass(frozen=True)
class ContextWindow:
    """A row that the model saw: the tokens `start` to `end` of the context, the first of them at `place` in the row;
    `cls` are the places of [CLS]."""

    tokens: LocatedText
    start: int
    end: int
    place: int
    cls: tuple[int, ...]


@dataclass(frozen=True)
class Rules:
    """What a caller wants of answers."""

    top_k: int
    max_answer_len: int
    handle_impossible_answer: bool
    align_to_words: bool


def answers_of(text: str, windows: Sequence[ContextWindow], logits: Sequence[Array], rules: Rules) -> list[Any]:
    """At most `top_k` {"score", "start", "end", "answer"}, best first. `logits`: [length, 2] of each window's row."""
    answers: dict[str, dict[str, Any]] = {}
    least_null = 1.0
    for window, outputs in zip(windows, logits, strict=True):
        begins, ends, null = _probabilities(window, outputs)
        least_null = min(least_null, null)
        n_spans = 2 * rules.top_k + 10 if rules.align_to_words else rules.top_k
        for first, last, score in _best_spans(begins, ends, n_spans, rules.max_answer_len):
            start, end = _characters(window, first, last, rules.align_to_words)
            told = answers.setdefault(
                text[start:end].lower(), {"score": 0.0, "start": start, "end": end, "answer": text[start:end]}
            )
            told["score"] += score
    found = list(answers.values())
    if rules.handle_impossible_answer:
        found.append({"score": least_null, "start": 0, "end": 0, "answer": ""})
    return sorted(found, key=lambda one: -float(one["score"]))[: rules.top_k]


def _probabilities(window: ContextWindow, outputs: Array) -> tuple[Array, Array, float]:
    """Of the context's tokens in that window, that an answer begins and ends there; and of no answer."""
    possible = np.zeros(len(outputs), bool)
    possible[window.place : window.place + window.end - window.start] = True
    possible[list(window.cls)] = True
    powers = np.exp(np.where(possible[:, None], outputs, np.float32(_BEYOND)) - outputs[possible].max(0))
    both = powers / powers.sum(0)
    inner = both[window.place : window.place + window.end - window.start]
    return inner[:, 0], inner[:, 1], float(both[0, 0] * both[0, 1])


def _best_spans(begins: Array, ends: Array, n_spans: int, max_tokens: int) -> list[tuple[int, int, float]]:
    """(first, last, score) of spans of at most `max_tokens` tokens, best first."""
    count = len(begins)
    longest = min(max_tokens, count)
    padded = np.concatenate([ends, np.zeros(longest - 1, ends.dtype)])
    # [first, length - 1]: only the spans that may be, instead of all pairs.
    scores = begins[:, None] * np.lib.stride_tricks.sliding_window_view(padded, longest)
    flat = scores.ravel()
    best = np.argpartition(-flat, n_spans)[:n_spans] if len(flat) > n_spans else np.arange(len(flat))
    best = best[np.argsort(-flat[best], kind="stable")]
    spans = ((int(i // longest), int(i % longest), float(flat[i])) for i in best)
    return [(first, first + more, score) for first, more, score in spans if score > 0 and first + more < count]


def _characters(window: ContextWindow, first: int, last: int, align: bool) -> tuple[int, int]:
    """Where the tokens `first` to `last` of the window stand in the text; whole words, as far as the window has any."""
    tokens, first, last = window.tokens, first + window.start, last + window.start
    words = tokens.words
    if align and words[first] >= 0 and words[last] >= 0:
        inside = words[window.start : window.end]
        first = window.start + int(np.flatnonzero(inside == words[first])[0])
        last = window.start + int(np.flatnonzero(inside == words[last])[-1])
    return int(tokens.starts[first]), int(tokens.ends[last])
