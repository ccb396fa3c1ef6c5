"""From the scores of tokens to entities: what transformers' pipeline publishes as aggregation strategies.

`none`: every token by itself. `simple`: neighbours of one label are one entity; B- begins another. `first`, `average`
and `max` let a word have one label first: its first token's, the best of the mean scores, or the most certain token's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from model_api.tasks.contract import Array
from model_api.tasks.text.encoding import LocatedText
from model_api.tasks.text.tokenizer_facts import TokenizerFacts

Strategy = Literal["none", "simple", "first", "average", "max"]
Join = Callable[[Sequence[Sequence[str]]], Sequence[str]]  # lists of pieces to what they read as


@dataclass(frozen=True)
class Piece:
    """A token, or a word of several: `scores` [labels]."""

    text: str
    start: int
    end: int
    place: int  # in the row that the model saw
    goes_on: bool  # part of the same word as the one before
    scores: Array

    @property
    def best(self) -> int:
        return int(self.scores.argmax())


@dataclass(frozen=True)
class Window:
    """A row that the model saw: the tokens `start` to `end` of a text, behind `lead` special ones."""

    tokens: LocatedText
    start: int
    end: int
    lead: int


def pieces_of(text: str, window: Window, scores: Array, facts: TokenizerFacts) -> list[Piece]:
    """The tokens of a window, `scores` [length of the row, labels]; special ones are left out."""
    tokens, found = window.tokens, []
    for number in range(window.start, window.end):
        if tokens.special[number]:
            continue
        start, end, piece = int(tokens.starts[number]), int(tokens.ends[number]), tokens.pieces[number]
        written = text[start:end]
        if facts.marks_subwords:
            goes_on = len(piece) != len(written)
        else:  # no tokenizer of words: what follows a space begins one
            goes_on = start > 0 and " " not in text[start - 1 : start + 1]
        if tokens.ids[number] == facts.unknown_id:
            piece, goes_on = written, False
        place = number - window.start + window.lead
        found.append(Piece(piece, start, end, place, goes_on, scores[place]))
    return found


def entities_of(
    windows: Sequence[Sequence[Piece]], strategy: Strategy, labels: Sequence[str], ignored: frozenset[str], join: Join
) -> list[list[dict[str, Any]]]:
    """The entities of each window. `join` is asked for all of them at once."""
    if strategy == "none":
        return [[_token(piece, labels) for piece in pieces if labels[piece.best] not in ignored] for pieces in windows]
    if strategy != "simple":
        words = [_words(pieces) for pieces in windows]
        joined = iter(join([[piece.text for piece in word] for of_window in words for word in of_window]))
        windows = [[_word(word, strategy, next(joined)) for word in of_window] for of_window in words]
    groups = [_groups(pieces, labels) for pieces in windows]
    joined = iter(join([[piece.text for piece in group] for of_window in groups for group in of_window]))
    entities = [[_entity(group, labels, next(joined)) for group in of_window] for of_window in groups]
    return [[one for one in of_window if one["entity_group"] not in ignored] for of_window in entities]


def _token(piece: Piece, labels: Sequence[str]) -> dict[str, Any]:
    best = piece.best
    return {
        "entity": labels[best],
        "score": float(piece.scores[best]),
        "index": piece.place,
        "word": piece.text,
        "start": piece.start,
        "end": piece.end,
    }


def _words(pieces: Sequence[Piece]) -> list[list[Piece]]:
    words: list[list[Piece]] = []
    for piece in pieces:
        if words and piece.goes_on:
            words[-1].append(piece)
        else:
            words.append([piece])
    return words


def _word(pieces: Sequence[Piece], strategy: Strategy, text: str) -> Piece:
    if strategy == "first":
        scores = pieces[0].scores
    elif strategy == "max":
        scores = max(pieces, key=lambda piece: float(piece.scores.max())).scores
    else:
        scores = np.mean(np.stack([piece.scores for piece in pieces]), axis=0)
    return Piece(text, pieces[0].start, pieces[-1].end, pieces[0].place, False, scores)


def _tag(label: str) -> tuple[bool, str]:
    """Whether it begins an entity whatever stands before, and of what it is one."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _groups(pieces: Sequence[Piece], labels: Sequence[str]) -> list[list[Piece]]:
    groups: list[list[Piece]] = []
    for piece in pieces:
        begins, tag = _tag(labels[piece.best])
        if groups and not begins and tag == _tag(labels[groups[-1][-1].best])[1]:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _entity(group: Sequence[Piece], labels: Sequence[str], text: str) -> dict[str, Any]:
    return {
        "entity_group": labels[group[0].best].split("-", 1)[-1],
        "score": float(np.mean([piece.scores[piece.best] for piece in group])),
        "word": text,
        "start": group[0].start,
        "end": group[-1].end,
    }


def without_overlaps(entities: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of entities that overlap, because windows do, the longest; of equally long ones the most certain."""
    kept: list[dict[str, Any]] = []
    for entity in sorted(entities, key=lambda one: int(one["start"])):
        if not kept or not kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            kept.append(entity)
        elif (entity["end"] - entity["start"], entity["score"]) > (
            kept[-1]["end"] - kept[-1]["start"],
            kept[-1]["score"],
        ):
            kept[-1] = entity
    return kept
