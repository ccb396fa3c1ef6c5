from typing import Any

import pytest

from model_api.compute.architectures import Architecture, supports
from model_api.errors import Refused

BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "hidden_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}


def test_supports_only_what_it_computes_exactly() -> None:
    assert supports(BERT)
    assert supports({"model_type": "distilbert", "activation": "gelu"})
    for change in (
        {"model_type": "mpnet"},
        {"hidden_act": "silu"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"quantization_config": {"bits": 4}},
    ):
        assert not supports(BERT | change)
    assert not supports({})


def test_max_tokens_leaves_out_the_rows_before_the_first_position() -> None:
    assert Architecture.from_config(BERT).max_tokens == 64
    roberta = BERT | {"model_type": "roberta", "pad_token_id": 1}
    assert Architecture.from_config(roberta).max_tokens == 62


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": None},
        {"hidden_size": "48"},
        {"num_attention_heads": 5},
        {"vocab_size": 0},
        {"model_type": "roberta", "pad_token_id": -1},
        {"model_type": "roberta", "pad_token_id": 63},
    ],
)
def test_an_impossible_config_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"config\.json"):
        Architecture.from_config(BERT | change)
