import math

import pytest
from rouge_score.rouge_scorer import RougeScorer

from model_api.errors import InvalidInput
from model_api.serving.text_scores import MAX_PAIR_S, SCORES, US_PER_WORD_PAIR, mean_scores, score_costs, score_pair


def test_equal_texts_score_one() -> None:
    scores = score_pair("the bridge opens on monday", "the bridge opens on monday")
    assert list(scores) == list(SCORES)
    assert all(math.isclose(score, 1.0) for score in scores.values())


def test_disjoint_texts_score_zero() -> None:
    assert all(score < 1e-9 for score in score_pair("alpha beta gamma delta", "one two three four").values())


def test_known_value() -> None:
    """target 6 words, prediction 3, all three found: P=1, R=1/2, F=2/3; two of the five bigrams."""
    scores = score_pair("the cat sat on the mat", "the cat sat")
    assert scores["rouge1"] == pytest.approx(2 / 3)
    assert scores["rouge2"] == pytest.approx(2 * 1 * 0.4 / 1.4)
    assert scores["rougeL"] == pytest.approx(2 / 3)
    assert scores["bleu"] == pytest.approx(math.exp(1 - 6 / 3))  # every n-gram right, brevity penalty alone


def test_ascii_agrees_with_the_library_s_own_tokenizer() -> None:
    target, prediction = "Don't panic_now: it's 42 (really)!\nYes.", "don t panic; 42 it is\nNo_yes"
    reference = RougeScorer(list(SCORES[:4])).score(target, prediction)
    assert {name: score_pair(target, prediction)[name] for name in SCORES[:4]} == {
        name: score.fmeasure for name, score in reference.items()
    }


def test_other_scripts_count() -> None:
    assert score_pair("мост открыт в понедельник", "мост открыт")["rouge1"] == pytest.approx(2 / 3)


def test_lines_are_the_sentences_of_rouge_lsum() -> None:
    scores = score_pair("one two\nthree four", "three four\none two")
    assert scores["rougeLsum"] == pytest.approx(1.0)
    assert scores["rougeL"] == pytest.approx(0.5)


def test_empty_prediction_scores_zero() -> None:
    assert score_pair("something", "") == dict.fromkeys(SCORES, 0.0)


WORDS = "w " * (math.isqrt(int(MAX_PAIR_S * 1e6 / US_PER_WORD_PAIR)) + 1)
LINES_TARGET, LINES_PREDICTION = "a\n" + ".\n" * 49_000, "a\n" + ",\n" * 49_000


@pytest.mark.parametrize("pair", [(WORDS, WORDS), (LINES_TARGET, LINES_PREDICTION), ("." * 700_000, "a")])
def test_too_long_a_pair_is_refused_before_scoring(pair: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        score_costs([("short", "one")] * 3 + [pair], "/predictions")
    assert refused.value.pointer == "/predictions/3"
    assert score_costs([("short", pair[1][:1000])], "/predictions")[0] > 0


def test_many_pairs_are_bounded_together() -> None:
    half = WORDS[: len(WORDS) // 2]
    assert len(score_costs([(half, half)] * 10, "/predictions")) == 10
    with pytest.raises(InvalidInput, match="send fewer") as refused:
        score_costs([(half, half)] * 100, "/predictions")
    assert refused.value.pointer == "/predictions"


def test_means() -> None:
    first, second = dict.fromkeys(SCORES, 0.25), dict.fromkeys(SCORES, 0.75)
    assert mean_scores([first, second]) == dict.fromkeys(SCORES, 0.5)
    assert mean_scores([]) == dict.fromkeys(SCORES, None)


def test_no_score_is_above_one() -> None:
    text = "the cat sat on the mat"  # sacrebleu gives 100.00000000000004
    assert max(score_pair(text, text).values()) == 1.0
