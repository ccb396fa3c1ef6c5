"""How close predicted texts are to the wanted ones: ROUGE and BLEU, by the libraries that papers use.

All five scores lie in 0..1 (BLEU too, which elsewhere is often given in per cent), so that they can share a table
and a chart. ROUGE is the F-measure without stemming; rougeLsum takes each line as a sentence; BLEU is sacrebleu's
sentence BLEU with effective order. The libraries are imported by the first call, so a process that never scores
doesn't pay: 0.2 s and 25 MB for good, of which 16 MB are nltk, which rouge-score imports for a stemmer that isn't used.
(Where scipy and scikit-learn are installed, as for the tests, nltk imports them too: a second and 106 MB.)
"""

import re
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import orjson

from model_api.errors import InvalidInput

SCORES = ("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu")
# The longest common subsequence takes words x words steps, about 0.2 µs each, and the interpreter's lock with them.
MAX_WORD_PAIRS = 4_000_000
_WORD = re.compile(r"[^\W_]+")
_one_at_a_time = threading.Lock()


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


def check_pair(target: str, prediction: str, pointer: str) -> None:
    """Raise InvalidInput at `pointer` for a pair that would take too long to score."""
    n_target, n_prediction = len(_WORD.findall(target)), len(_WORD.findall(prediction))
    if n_target * n_prediction > MAX_WORD_PAIRS:
        raise InvalidInput(
            f"too long to score: {n_target} words against {n_prediction}, at most {MAX_WORD_PAIRS:,} pairs", pointer
        )


def score_pair(target: str, prediction: str) -> dict[str, float]:
    """The five scores of one pair. Any thread; one pair is scored at a time, so that scoring never takes more than
    one request thread's share of the process."""
    with _one_at_a_time:
        rouge, bleu = _libraries()
        scores = {name: float(score.fmeasure) for name, score in rouge.score(target, prediction).items()}
        # Its rounding can give a hair more than 100.
        scores["bleu"] = min(1.0, float(bleu.sentence_score(prediction, [target]).score) / 100)
    return scores


def mean_scores(items: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """The mean of each score over the items; None where there is none."""
    return {name: sum(item[name] for item in items) / len(items) if items else None for name in SCORES}
