"""Question answering: what is refused, windows, precisions. That it equals the published post-processing is shown by
the catalogue."""

from pathlib import Path
from typing import Any

import int8_encoder
import numpy as np
import pytest

from model_api.errors import InvalidInput
from model_api.tasks.text.encoding import LocalEncoder
from model_api.tasks.text.windows import MAX_WINDOWS, windows_of
from tests.catalogue.kinds_answering import FAMILIES
from tests.needs import missing
from tests.processes.test_encoding_process import Started
from tests.rigs.asking import Asked

TASK = "question-answering"
ONE = {"question": "was the film good?", "context": "the day was bad but the film was very good"}
LONG = "the train was not very good and " * 12


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("bert")
    FAMILIES["bert"](folder)
    return Asked(TASK, folder)


def test_an_answer_stands_where_it_says(bert: Asked) -> None:
    for context in (ONE["context"], LONG, "東京 and Schön, naïve café"):
        (found,) = bert([{**ONE, "context": context}], {"top_k": 7})
        assert {name: found["answers"][0][name] for name in found if name != "answers"} == {
            name: value for name, value in found.items() if name != "answers"
        }
        scores = [one["score"] for one in found["answers"]]
        assert scores == sorted(scores, reverse=True)
        assert len({one["answer"].lower() for one in found["answers"]}) == len(scores) <= 7
        assert all(context[one["start"] : one["end"]] == one["answer"] for one in found["answers"])
    assert set(bert([ONE])[0]) == {"score", "start", "end", "answer"}


def test_no_answer_is_among_them_where_a_caller_allows_it(bert: Asked) -> None:
    (found,) = bert([ONE], {"top_k": 100, "handle_impossible_answer": True})
    assert [one for one in found["answers"] if one["answer"] == ""] == [
        {"score": pytest.approx(0, abs=1), "start": 0, "end": 0, "answer": ""}
    ]


@pytest.mark.parametrize(
    ("one", "place", "why"),
    [
        ("a text", "", "must be"),
        (None, "", "must be"),
        (["q", "c"], "", "must be"),
        ({}, "", "must be"),
        ({"question": "a"}, "", "must be"),
        ({"context": "a"}, "", "must be"),
        ({**ONE, "id": 3}, "", "must be"),
        ({**ONE, "question": ""}, "/question", "empty"),
        ({**ONE, "question": "  \n"}, "/question", "empty"),
        ({**ONE, "question": 3}, "/question", "must be a string"),
        ({**ONE, "question": LONG}, "/question", "truncate"),
        ({**ONE, "context": ""}, "/context", "empty"),
        ({**ONE, "context": "\u200b"}, "/context", "empty but for"),
        ({**ONE, "context": ["a"]}, "/context", "must be a string"),
        ({**ONE, "context": "x" * 5001}, "/context", "at most 5000"),
    ],
    ids=str,
)
def test_inputs_that_ask_nothing(bert: Asked, one: Any, place: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        bert([ONE, one])
    assert refused.value.pointer == f"/inputs/1{place}"


@pytest.mark.parametrize(
    ("parameters", "name", "why"),
    [
        ({"top_k": 0}, "top_k", "between 1 and 100"),
        ({"top_k": 101}, "top_k", "between 1 and 100"),
        ({"top_k": 2.5}, "top_k", "an integer"),
        ({"doc_stride": -1}, "doc_stride", "between 0"),
        ({"doc_stride": 60}, "doc_stride", "less than 56"),
        ({"max_seq_len": 65}, "max_seq_len", "the model takes 64"),
        ({"max_seq_len": 7}, "max_seq_len", "between 8"),
        ({"max_answer_len": 0}, "max_answer_len", "between 1 and 1000"),
        ({"handle_impossible_answer": "yes"}, "handle_impossible_answer", "true or false"),
        ({"align_to_words": 1}, "align_to_words", "true or false"),
        ({"max_question_len": 64}, "max_question_len", "unknown parameter"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense(bert: Asked, parameters: dict[str, Any], name: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        bert([{"question": "was it bad?", "context": LONG}], parameters)
    assert refused.value.pointer == f"/parameters/{name}"


def test_a_question_that_leaves_no_room_is_cut_on_request_and_told(bert: Asked) -> None:
    prepared = bert.web.prepare([ONE, {**ONE, "question": LONG}], {"truncate": True})
    assert list(prepared.truncated) == [1]
    assert max(row.shape[1] for row in prepared.arrays) <= 64
    with pytest.raises(InvalidInput) as refused:
        bert([ONE], {"max_seq_len": 8})
    assert refused.value.pointer == "/inputs/0/question"


def test_windows_hold_the_whole_context(bert: Asked) -> None:
    prepared = bert.web.prepare([ONE, {**ONE, "context": LONG}], {"doc_stride": 10})
    texts, windows, _, _ = prepared.context
    assert texts[1] == LONG
    spans = [(window.start, window.end) for window in windows[1]]
    assert spans[0][0] == 1
    assert all(first[1] - second[0] == 10 for first, second in zip(spans, spans[1:], strict=False))  # noqa: RUF007
    assert windows[1][-1].tokens.ends[spans[-1][1] - 1] == len(LONG.rstrip())
    assert len(prepared.arrays) == 1 + len(spans)


def test_a_request_has_so_many_windows_at_most(bert: Asked) -> None:
    one = {"question": "a", "context": "a " * 2499}
    room = 64 - 3 - 1
    fitting = MAX_WINDOWS // len(windows_of(2499, room, room - 1))
    with pytest.raises(InvalidInput, match="windows") as refused:
        bert([one] * (fitting + 1), {"doc_stride": room - 1})
    assert refused.value.pointer == f"/inputs/{fitting}/context"


def test_a_tokenizer_that_runs_elsewhere_changes_nothing(tmp_path: Path) -> None:
    FAMILIES["roberta"](tmp_path)
    started = Started(LocalEncoder(tmp_path))
    started.start()
    try:
        inputs = [ONE, {**ONE, "context": LONG}]
        apart, here = Asked(TASK, tmp_path, encoder=started.process), Asked(TASK, tmp_path)
        assert apart(inputs, {"top_k": 3}) == here(inputs, {"top_k": 3})
    finally:
        started.end()


@pytest.mark.parametrize(("family", "precision"), [("bert", "bfloat16"), ("roberta", "int8"), ("distilbert", "int8")])
def test_other_precisions_are_near(family: str, precision: str, tmp_path: Path) -> None:
    if precision == "int8" and int8_encoder.best_variant() is None:
        missing("no int8 kernels for this processor, or scripts/setup found no compiler")
    FAMILIES[family](tmp_path)
    exact, near = Asked(TASK, tmp_path), Asked(TASK, tmp_path, precision)
    assert near.model.precision == precision
    arrays = exact.web.prepare([ONE, {**ONE, "context": LONG}], {}).arrays
    for a, b in zip(exact.model.forward(arrays, {}), near.model.forward(arrays, {}), strict=True):
        assert a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b) > 0.98


def test_token_types_are_worth_more_than_int8(bert: Asked, tmp_path: Path) -> None:
    if int8_encoder.best_variant() is None:
        missing("no int8 kernels for this processor, or scripts/setup found no compiler")
    FAMILIES["bert"](tmp_path)
    model = Asked(TASK, tmp_path, "int8").model
    assert model.precision != "int8"
    assert "token types" in str(model.precision_reason)


def test_the_same_to_the_bit_alone_and_in_a_batch(bert: Asked) -> None:
    arrays = bert.web.prepare([ONE, {**ONE, "context": LONG}], {}).arrays
    for array, together in zip(arrays, bert.model.forward(arrays, {}), strict=True):
        assert bert.model.forward([array], {})[0].tobytes() == together.tobytes()
