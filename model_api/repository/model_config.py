"""What a config.json says of its model, whatever the task.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from model_api.repository.problem import Problem

# Families with a decoder whose encoder sentence-transformers takes alone.
_OWN_ENCODERS = frozenset({"t5", "mt5", "umt5", "longt5", "switch_transformers", "m2m_100", "pegasus", "marian"})
# Families that began as code beside the weights and are transformers' own now: that code isn't needed any more.
_ADOPTED = frozenset({"nomic_bert", "jina_embeddings_v3", "eurobert", "modernbert"})


def named_architecture(config: Mapping[str, Any]) -> str:
    """The class that config.json names; "" for none."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def is_encoder_decoder(config: Mapping[str, Any]) -> bool:
    """What config.json says, else what its family is by itself."""
    told, family = config.get("is_encoder_decoder"), str(config.get("model_type"))
    return bool(told) if told is not None else family.endswith("t5") or family == "encoder-decoder"


def has_own_encoder(config: Mapping[str, Any]) -> bool:
    """Whether its encoder can serve without its decoder."""
    return config.get("model_type") in _OWN_ENCODERS


def judge_config(config: Mapping[str, Any]) -> Iterator[Problem]:
    """What can't be served, whatever the task."""
    quantised = config.get("quantization_config") or config.get("compression_config")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        why = f"its weights are quantised ({method or 'quantization_config'}), which is not served"
        yield Problem("config.json", f"{why}: publish the model that they were made of; instances quantise it")
    if (
        config.get("model_type") in ("big_bird", "bigbird_pegasus")
        and config.get("attention_type", "block_sparse") != "original_full"
    ):
        why = "its block_sparse attention answers a text otherwise after another, shorter one"
        yield Problem("config.json", f'{why}; publish with "attention_type": "original_full"')
    custom = config.get("auto_map")
    if custom and config.get("model_type") not in _ADOPTED:
        where = next(iter(custom.values()), "") if isinstance(custom, dict) else ""
        yield Problem("config.json", f"it needs code of its own (auto_map: {where}), which is never run")
