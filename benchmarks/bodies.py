"""The requests of the benchmark: a target and texts, made from a fixed word list with a fixed seed.

Every word is one token of the model's vocabulary, so a text of n words has n + 2 tokens. Several distinct bodies
are sent in turn, so that a cache of answers would have to hold them all to help; ours is not asked to.
"""

import base64
import json
import math
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORDS = tuple((Path(__file__).parent / "words.txt").read_text().split())
SPECIAL_TOKENS = 2  # [CLS] and [SEP]
SEED = 20240607


@dataclass(frozen=True)
class Body:
    """One request."""

    target: str
    texts: tuple[str, ...]

    @property
    def all_texts(self) -> tuple[str, ...]:
        """What a server has to encode: the target and the texts."""
        return (self.target, *self.texts)


def token_count(text: str) -> int:
    return len(text.split()) + SPECIAL_TOKENS


@dataclass(frozen=True)
class Kind:
    """A kind of body: `n_texts` beside the target, their lengths spread log-uniformly over the given tokens."""

    name: str
    title: str
    n_texts: int
    min_tokens: int
    max_tokens: int
    n_bodies: int

    def bodies(self) -> list[Body]:
        """The same list on every call and every machine."""
        chance = random.Random(f"{SEED} {self.name}")
        return [Body(self._text(chance), tuple(self._texts(chance))) for _ in range(self.n_bodies)]

    def _texts(self, chance: random.Random) -> list[str]:
        """One text per equal share of the range, in random order, so that bodies of a kind cost about the same."""
        texts = [self._text(chance, (share + chance.random()) / self.n_texts) for share in range(self.n_texts)]
        chance.shuffle(texts)
        return texts

    def _text(self, chance: random.Random, place: float | None = None) -> str:
        place = chance.random() if place is None else place
        low, high = math.log(self.min_tokens), math.log(self.max_tokens + 1)
        n_tokens = min(self.max_tokens, int(math.exp(low + place * (high - low))))
        return " ".join(chance.choices(WORDS, k=n_tokens - SPECIAL_TOKENS))


SHORT = Kind("short", "target and 3 short texts", n_texts=3, min_tokens=5, max_tokens=14, n_bodies=64)
MIXED = Kind("mixed", "target and 32 texts of 5 to 200 tokens", n_texts=32, min_tokens=5, max_tokens=200, n_bodies=24)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (SHORT, MIXED)}


@dataclass(frozen=True)
class Dialect:
    """How a server wants to be asked: where, with what body, and how its answer becomes one score per text."""

    path: str
    encode: Callable[[Body], bytes]
    scores: Callable[[Any], Sequence[float]]


def _sim_body(body: Body) -> bytes:
    return json.dumps({"target": body.target, "texts": body.texts}).encode()


def _sim_scores(answer: Any) -> Sequence[float]:
    return [float(score) for score in answer["context"]["sims"]]


def _embeddings_body(body: Body) -> bytes:
    return json.dumps({"model": "minilm", "input": body.all_texts, "encoding_format": "base64"}).encode()


def _embeddings_scores(answer: Any) -> Sequence[float]:
    vectors = [_vector(item["embedding"]) for item in answer["data"]]
    return [_dot(vectors[0], vector) for vector in vectors[1:]]


def _vector(encoded: str) -> list[float]:
    raw = base64.b64decode(encoded)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


SIM = Dialect("/sim", _sim_body, _sim_scores)
EMBEDDINGS = Dialect("/embeddings", _embeddings_body, _embeddings_scores)  # OpenAI's form: vectors, unit length
