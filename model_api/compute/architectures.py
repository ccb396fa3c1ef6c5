"""What the padding-free encoder knows about each family: sizes from config.json, names of its tensors.

No torch here. A config outside of what is checked below is served by transformers instead (reference_encoder.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_api.compute.positions import OFFSET_FAMILIES, first_position
from model_api.errors import Refused


@dataclass(frozen=True)
class TensorNames:
    """Where a family keeps its tensors; names of a layer are relative to `layer` (which holds the layer's number)."""

    prefixes: tuple[str, ...]  # before every name; the bare encoder has none, a model with a head has one
    layer: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    ffn_in: str
    ffn_out: str
    ffn_norm: str


def _bert_like(prefix: str) -> TensorNames:
    return TensorNames(
        prefixes=("", prefix),
        layer="encoder.layer.{}.",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        attention_output="attention.output.dense",
        attention_norm="attention.output.LayerNorm",
        ffn_in="intermediate.dense",
        ffn_out="output.dense",
        ffn_norm="output.LayerNorm",
    )


_DISTILBERT = TensorNames(
    prefixes=("", "distilbert."),
    layer="transformer.layer.{}.",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    attention_norm="sa_layer_norm",
    ffn_in="ffn.lin1",
    ffn_out="ffn.lin2",
    ffn_norm="output_layer_norm",
)

_NAMES: Mapping[str, TensorNames] = {
    "bert": _bert_like("bert."),
    "roberta": _bert_like("roberta."),
    "xlm-roberta": _bert_like("roberta."),
    "camembert": _bert_like("roberta."),
    "distilbert": _DISTILBERT,
}
# config's name -> (activation, algorithm) of the fused linear layer; "gelu" is the exact one.
_ACTIVATIONS: Mapping[str, tuple[str, str]] = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}


def supports(config: Mapping[str, Any]) -> bool:
    """Whether the padding-free encoder gives this config's own answers; otherwise transformers must serve it."""
    family = config.get("model_type")
    if not isinstance(family, str) or family not in _NAMES:
        return False
    activation = config.get("activation" if family == "distilbert" else "hidden_act", "gelu")
    return (
        isinstance(activation, str)
        and activation in _ACTIVATIONS
        and config.get("position_embedding_type", "absolute") in ("absolute", None)
        and not config.get("is_decoder", False)
        and not config.get("add_cross_attention", False)
        and not config.get("quantization_config")
    )


def _epsilon(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise Refused("config.json", f"layer_norm_eps is {value!r}, not a number below 1")
    return float(value)


@dataclass(frozen=True)
class Architecture:
    """The sizes of one model, checked against each other."""

    names: TensorNames
    hidden_size: int
    n_heads: int
    n_layers: int
    ffn_size: int
    vocabulary: int
    n_positions: int  # rows of the position table
    first_position: int  # the row of a sequence's first token
    padding_id: int | None  # tokens that take no position, where the family has that rule
    n_token_types: int  # 0: the family has none
    norm_eps: float
    activation: tuple[str, str]

    @property
    def max_tokens(self) -> int:
        """The longest sequence, special tokens included."""
        return self.n_positions - self.first_position

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Architecture:
        """Raises Refused naming config.json where a size is missing or impossible. Needs `supports(config)`."""
        family = config["model_type"]
        distil = family == "distilbert"

        def size(key: str, default: int | None = None) -> int:
            value = config.get(key, default)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise Refused("config.json", f"{key} is {value!r}, not a positive number")
            return value

        padding_id = None
        if family in OFFSET_FAMILIES:
            padding_id = config.get("pad_token_id", 1)
            if not isinstance(padding_id, int) or padding_id < 0:
                raise Refused("config.json", f"pad_token_id is {padding_id!r}")
        architecture = cls(
            names=_NAMES[family],
            hidden_size=size("dim" if distil else "hidden_size"),
            n_heads=size("n_heads" if distil else "num_attention_heads"),
            n_layers=size("n_layers" if distil else "num_hidden_layers"),
            ffn_size=size("hidden_dim" if distil else "intermediate_size"),
            vocabulary=size("vocab_size"),
            n_positions=size("max_position_embeddings", 512),
            first_position=first_position(config),
            padding_id=padding_id,
            n_token_types=0 if distil else size("type_vocab_size", 2),
            norm_eps=_epsilon(config.get("layer_norm_eps", 1e-12)) if not distil else 1e-12,
            activation=_ACTIVATIONS[config.get("activation" if distil else "hidden_act", "gelu")],
        )
        if architecture.hidden_size % architecture.n_heads:
            raise Refused("config.json", f"{architecture.n_heads} heads don't divide {architecture.hidden_size}")
        if architecture.max_tokens < 1:
            raise Refused("config.json", f"{architecture.n_positions} positions leave no room for a token")
        return architecture
