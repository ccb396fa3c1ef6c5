"""Vectors of tokens: what is refused, and how large an answer may be. The catalogue shows that they equal transformers'
pipeline's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_api.errors import InvalidInput, Refused
from tests.catalogue.building import modules
from tests.catalogue.kinds_encoders import FAMILIES
from tests.rigs.asking import Asked

TASK = "feature-extraction"
LONG = "the train was not very good and " * 12


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("bert")
    FAMILIES["bert"](folder)
    return Asked(TASK, folder)


def test_a_vector_for_every_token_special_ones_included(bert: Asked) -> None:
    short, long = bert(["the film", LONG], {"truncate": True})
    assert short.shape == (4, 32)
    assert long.shape == (64, 32)
    assert short.dtype == np.float32


@pytest.mark.parametrize("one", [None, 3, "", " ", ["a"], {"text": "a"}, LONG])
def test_inputs_that_are_no_texts(bert: Asked, one: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        bert(["a", one])
    assert refused.value.pointer == "/inputs/1"


@pytest.mark.parametrize("parameters", [{"truncate": 1}, {"pooling": "mean"}])
def test_parameters_that_make_no_sense(bert: Asked, parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        bert(["a"], parameters)
    assert refused.value.pointer == f"/parameters/{next(iter(parameters))}"


def test_an_answer_has_so_many_numbers_at_most(bert: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_api.tasks.text.feature_extraction.MAX_NUMBERS", 32 * 10)
    assert len(bert(["the film", "the film"])) == 2
    with pytest.raises(InvalidInput, match="384 numbers, 32 a token") as refused:
        bert(["the film"] * 4)
    assert refused.value.pointer == "/inputs/2"


def test_the_transformer_of_a_sentence_transformers_folder(tmp_path: Path) -> None:
    FAMILIES["bert"](tmp_path / "bare")
    FAMILIES["bert"](tmp_path / "whole")
    modules(transformer_at="0_Transformer")(tmp_path / "whole")
    (got,), (wanted,) = (Asked(TASK, tmp_path / name)(["the film"]) for name in ("whole", "bare"))
    assert np.array_equal(got, wanted)


def test_a_model_without_states_is_refused(tmp_path: Path) -> None:
    FAMILIES["bert"](tmp_path)
    static = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"}]
    (tmp_path / "modules.json").write_text(json.dumps(static))
    with pytest.raises(Refused, match="StaticEmbedding"):
        Asked(TASK, tmp_path)
