"""The longest text that a model's positions take: one answer for the web side, which refuses or cuts, and for the model
side, which computes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Their positions start after the padding id's, so that many rows of the table can't hold tokens.
OFFSET_FAMILIES = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "data2vec-text", "longformer", "xmod", "ibert"}
    | {"roberta-prelayernorm", "luke", "mluke", "lilt", "markuplm", "layoutlmv3", "xlm-prophetnet"}
)
_DECODER_KEYS = ("max_decoder_position_embeddings", "max_position_embeddings", "n_positions")
# Distances instead of positions: any length.
_UNBOUNDED = frozenset({"t5", "mt5", "umt5", "longt5", "switch_transformers", "xlnet", "bloom", "mamba"})
_KEYS = ("max_position_embeddings", "max_encoder_position_embeddings", "n_positions", "max_seq_len", "n_ctx")


def first_position(config: Mapping[str, Any]) -> int:
    """The row of the position table that a text's first token takes."""
    padding_id = config.get("pad_token_id", 1)
    offset = config.get("model_type") in OFFSET_FAMILIES and isinstance(padding_id, int)
    return padding_id + 1 if offset else 0


def most_tokens(config: Mapping[str, Any]) -> int | None:
    """Of one text, special tokens included, by a model of this config.json; None where its positions set no limit."""
    if config.get("model_type") in _UNBOUNDED:
        return None
    if config.get("model_type") == "encoder-decoder":
        return most_tokens(_part(config, "encoder"))
    limits = (config.get(key) for key in _KEYS)
    found = next((n for n in limits if isinstance(n, int) and not isinstance(n, bool) and n > 0), None)
    return None if found is None else found - first_position(config)


def most_new_tokens(config: Mapping[str, Any]) -> int | None:
    """That a decoder can generate, the start token's position being one of them; None where positions set no limit."""
    if config.get("model_type") in _UNBOUNDED:
        return None
    if config.get("model_type") == "encoder-decoder":
        return most_tokens(_part(config, "decoder"))
    limits = (config.get(key) for key in _DECODER_KEYS)
    return next((n for n in limits if isinstance(n, int) and not isinstance(n, bool) and n > 0), None)


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    return part if isinstance(part, dict) else {}
