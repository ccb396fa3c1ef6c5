"""Tensors that a load would leave unread: what is known to change no answer may lie there, anything else is refused.

A scale, an adapter or a position table that nobody reads is an answer that is wrong without a word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from model_api.errors import Refused
from model_api.repository.loaded_files import SINGLE_FILE

# Counters that old releases stored; they follow from the config.
_BUFFERS = (
    *("position_ids", "token_type_ids", "rotary_emb.inv_freq"),
    *("attn.masked_bias", "attn.bias", "num_batches_tracked"),
)
# Beginnings of what lies above an encoder: what it was pre-trained with, and heads of all kinds.
_ABOVE = (
    *("pooler.", "cls.", "lm_head.", "lm_predictions.", "predictions.", "sop_classifier.", "mlm_head."),
    *("mask_predictions.", "vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "decoder.", "head."),
    *("lm_loss.", "sequence_summary.", "final_logits_bias"),
    *("discriminator_predictions.", "generator_predictions.", "generator_lm_head."),
)
_HEADS = ("classifier.", "pre_classifier.", "classification_head.", "qa_outputs.", "score.", "logits_proj.")
# Parts of a method that changes the weights, wherever they lie.
_CHANGES = ("lora_", "adapter", "prefix_encoder", "ia3_", "_scale", "scale_inv", "qweight", "qzeros", "g_idx", ".SCB")
_WHY = (
    "is read by no load, so it would be ignored: config.json doesn't fit the weights, or an adapter or a quantisation"
    " isn't merged into them. What transformers makes of it, if that is meant, is written by"
    " AutoModel.from_pretrained(DIR).save_pretrained(OUT), or by the class that config.json names"
)


def check_unread(names: Iterable[str], prefix: str, head: Collection[str] | None) -> None:
    """Raises Refused for one of `names`, which a load of the encoder at `prefix` doesn't read. `head` are those that
    are read all the same; None where no head is wanted, and any may be left alone."""
    for name in sorted(names):
        if head is not None and name in head:
            continue
        inner = name.removeprefix(prefix)
        above = inner.startswith(_ABOVE) or (head is None and inner.startswith(_HEADS))
        if any(part in name for part in _CHANGES) or not (above or inner.endswith(_BUFFERS)):
            raise Refused(SINGLE_FILE, f"tensor {name!r} {_WHY}")
