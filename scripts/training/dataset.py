"""The labelled sentences that the sentiment model learns from, and the two marks that it must beat."""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

LABELS = ("negative", "neutral", "positive")
DATASET = Path(__file__).with_name("sentiment.jsonl")


@dataclass(frozen=True)
class Example:
    text: str
    label: int  # index into LABELS
    split: str  # "train" or "test", fixed in the file


def load_examples(path: Path = DATASET) -> tuple[list[Example], list[Example]]:
    """The training and the held-out examples. Raises ValueError that names the line at fault."""
    examples = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            if row["split"] not in ("train", "test"):
                raise ValueError(f"split {row['split']!r}")
            examples.append(Example(str(row["text"]), LABELS.index(row["label"]), row["split"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.name}, line {number}: {error!r}") from error
    return [e for e in examples if e.split == "train"], [e for e in examples if e.split == "test"]


def majority_accuracy(train: Sequence[Example], test: Sequence[Example]) -> float:
    """Held-out accuracy of always saying the commonest training label."""
    label = Counter(e.label for e in train).most_common(1)[0][0]
    return sum(e.label == label for e in test) / len(test)


def bag_of_words_accuracy(train: Sequence[Example], test: Sequence[Example]) -> float:
    """Held-out accuracy of multinomial naive Bayes on words and pairs of words, add-one smoothed."""
    counts = [Counter[str]() for _ in LABELS]
    for example in train:
        counts[example.label].update(_features(example.text))
    vocabulary = set().union(*counts)
    n_examples = Counter(e.label for e in train)

    def log_probability(label: int, features: Sequence[str]) -> float:
        total = counts[label].total() + len(vocabulary)
        known = (f for f in features if f in vocabulary)
        return math.log((n_examples[label] + 1) / (len(train) + len(LABELS))) + sum(
            math.log((counts[label][f] + 1) / total) for f in known
        )

    def predicted(text: str) -> int:
        features = _features(text)
        return max(range(len(LABELS)), key=lambda label: log_probability(label, features))

    return sum(predicted(e.text) == e.label for e in test) / len(test)


def _features(text: str) -> list[str]:
    words = re.findall(r"[\w']+", text.lower())
    return words + [f"{a} {b}" for a, b in pairwise(words)]
