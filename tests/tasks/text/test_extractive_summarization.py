"""On the real MiniLM: what it chooses must make sense, not only be well formed."""

from typing import Any

import pytest

from model_api.errors import InvalidInput
from model_api.repository.manifest import FileEntry, Manifest
from model_api.tasks.contract import Limits
from model_api.tasks.text.extractive_summarization import TASK
from tests.rigs.models import minilm_folder

MANIFEST = Manifest("m", "1", "extractive-summarization", (FileEntry("config.json", 1, "0" * 64),), 1)
SENTENCES = [
    "The city council voted on Monday to rebuild the old harbour.",
    "A gull stole a sandwich.",
    "The harbour walls were damaged by a storm and the council closed it.",
    "I like jazz.",
]


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any]:
    return TASK.open_web(minilm_folder(), MANIFEST, Limits(5000)), TASK.load_model(minilm_folder(), MANIFEST, "float32")


def ask(parts: tuple[Any, Any], inputs: list[Any], **parameters: Any) -> list[Any]:
    web, model = parts
    prepared = web.prepare(inputs, parameters)
    found: list[Any] = web.finish(prepared, list(model.forward(prepared.arrays, prepared.parameters)))
    return found


def test_the_central_sentences_in_their_order(parts: tuple[Any, Any]) -> None:
    article = " ".join(SENTENCES)
    (found,) = ask(parts, [article], max_sentences=2)
    assert [sentence["text"] for sentence in found["sentences"]] == [SENTENCES[0], SENTENCES[2]]
    assert found["text"] == f"{SENTENCES[0]} {SENTENCES[2]}"
    assert all(article[s["start"] : s["end"]] == s["text"] for s in found["sentences"])


def test_a_repeated_sentence_is_chosen_once(parts: tuple[Any, Any]) -> None:
    (found,) = ask(parts, [" ".join([SENTENCES[0], SENTENCES[0], SENTENCES[3]])], max_sentences=2)
    assert [sentence["text"] for sentence in found["sentences"]] == [SENTENCES[0], SENTENCES[3]]


def test_several_articles_do_not_mix(parts: tuple[Any, Any]) -> None:
    articles = [" ".join(SENTENCES), "Only one", " ".join(reversed(SENTENCES))]
    together = ask(parts, articles, max_sentences=2)
    alone = [ask(parts, [article], max_sentences=2)[0] for article in articles]
    assert together == alone
    assert together[1]["text"] == "Only one"


def test_bad_inputs_are_named(parts: tuple[Any, Any]) -> None:
    for bad in ("", 3, "word " * 600, "\u200b"):
        with pytest.raises(InvalidInput) as refused:
            parts[0].prepare(["fine", bad], {})
        assert refused.value.pointer == "/inputs/1"
    assert parts[0].prepare(["fine", "word " * 600], {"truncate": True}).truncated == [1]
    with pytest.raises(InvalidInput) as refused:
        parts[0].prepare(["fine"], {"max_sentences": 0})
    assert refused.value.pointer == "/parameters/max_sentences"
