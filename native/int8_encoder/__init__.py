"""BERT-like encoders in int8 on one core: the whole forward, from token ids to pooled float32 vectors, in one call."""

from int8_encoder._encoder import (
    ACTIVATIONS,
    MATRICES,
    POOLINGS,
    Matrix,
    PackedEncoder,
    Shape,
    best_variant,
    packed_bytes,
    variants,
)

__all__ = [
    "ACTIVATIONS",
    "MATRICES",
    "POOLINGS",
    "Matrix",
    "PackedEncoder",
    "Shape",
    "best_variant",
    "packed_bytes",
    "variants",
]
