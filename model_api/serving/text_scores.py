"""How close predicted texts are to the wanted ones: ROUGE and BLEU, by the libraries that papers use.

All five scores lie in 0..1 (BLEU too, which elsewhere is often given in per cent), so that they can share a table
and a chart. ROUGE is the F-measure without stemming; rougeLsum takes each line as a sentence; BLEU is sacrebleu's
sentence BLEU with effective order. The libraries are imported by the first call, so a process that never scores
doesn't pay: 0.2 s and 25 MB for good, of which 16 MB are nltk, which rouge-score imports for a stemmer that isn't used.
(Where scipy and scikit-learn are installed, as for the tests, nltk imports them too: a second and 106 MB.)
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import orjson

from model_api.errors import InvalidInput

SCORES = ("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu")
# What scoring takes, measured: rougeL and rougeLsum fill tables of words x words, rougeLsum one for each pair of lines,
# and BLEU's tokenizer goes over every character.
US_PER_WORD_PAIR = 0.8
US_PER_LINE_PAIR = 4.0
US_PER_CHAR = 6.0
UNIT_US = 100  # the queue counts in tokens, of about this much
MAX_PAIR_S = 4.0
MAX_REQUEST_S = 25.0
_WORD = re.compile(r"[^\W_]+")


class _Words:
    """The tokenizer that rouge-score is given: the same as its own on ASCII, where other letters aren't thrown away."""

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text.lower())


@cache
def _libraries() -> tuple[Any, Any]:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU

    return RougeScorer(list(SCORES[:4]), tokenizer=_Words()), BLEU(effective_order=True)


def text_of(prediction: Any) -> str | None:
    """The text that a prediction is, or has under "text"; None if it is something else."""
    if isinstance(prediction, orjson.Fragment):
        prediction = orjson.loads(orjson.dumps(prediction))
    found = prediction.get("text") if isinstance(prediction, Mapping) else prediction
    return found if isinstance(found, str) else None


def score_costs(pairs: Sequence[tuple[str, str]], place: str) -> list[int]:
    """What scoring each (target, prediction) costs, in units of UNIT_US.

    Raises InvalidInput, at `place`/index for a pair that would take too long, at `place` for all of them together.
    """
    seconds = [_seconds(*pair) for pair in pairs]
    for index, ((target, prediction), one) in enumerate(zip(pairs, seconds, strict=True)):
        if one > MAX_PAIR_S:
            sizes = f"{_size(target)} against {_size(prediction)}"
            raise InvalidInput(
                f"too long to score: {sizes} would take {one:.0f} s, at most {MAX_PAIR_S:g}", f"{place}/{index}"
            )
    if sum(seconds) > MAX_REQUEST_S:
        raise InvalidInput(
            f"too much to score at once: {len(pairs)} pairs would take {sum(seconds):.0f} s, at most {MAX_REQUEST_S:g};"
            " send fewer in each request",
            place,
        )
    return [math.ceil(one * 1e6 / UNIT_US) for one in seconds]


def _seconds(target: str, prediction: str) -> float:
    words = len(_WORD.findall(target)) * len(_WORD.findall(prediction))
    lines = (target.count("\n") + 1) * (prediction.count("\n") + 1)
    chars = len(target) + len(prediction)
    return (words * US_PER_WORD_PAIR + lines * US_PER_LINE_PAIR + chars * US_PER_CHAR) / 1e6


def _size(text: str) -> str:
    lines = text.count("\n") + 1
    return f"{len(_WORD.findall(text))} words in {lines} line{'s' * (lines > 1)}"


def score_pair(target: str, prediction: str) -> dict[str, float]:
    """The five scores of one pair. Takes about what `score_costs` says, and the interpreter's lock with it."""
    rouge, bleu = _libraries()
    scores = {name: float(score.fmeasure) for name, score in rouge.score(target, prediction).items()}
    # Its rounding can give a hair more than 100.
    scores["bleu"] = min(1.0, float(bleu.sentence_score(prediction, [target]).score) / 100)
    return scores


def mean_scores(items: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """The mean of each score over the items; None where there is none."""
    return {name: sum(item[name] for item in items) / len(items) if items else None for name in SCORES}
