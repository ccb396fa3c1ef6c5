"""Which implementation computes an encoder's hidden states. Model side only: imports torch."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from model_api.compute.architectures import Architecture, supports
from model_api.compute.encoder import Encoder
from model_api.compute.encoder_shape import DTYPES, EncoderShape
from model_api.compute.processor import choose_precision
from model_api.compute.quantised_encoder import QuantisedEncoder, why_not_int8
from model_api.compute.transformers_encoder import ReferenceEncoder
from model_api.compute.weights import read_config


def settle_precision(config: Mapping[str, Any], asked: str, pairs: bool = False) -> tuple[str, str | None]:
    """What a model of this config.json is served in here: float32, bfloat16 or int8. Where int8 was asked for and can't
    be, what "auto" means, and why. `pairs`: it is asked about two texts at a time. Raises ValueError for an unknown
    word, Refused for a config that names no sizes."""
    precision = choose_precision(asked)
    reason = why_not_int8(config) if precision == "int8" else None
    if precision == "int8" and not reason and pairs and Architecture.from_config(config).n_token_types > 1:
        reason = "the int8 kernels take no token types, which pairs of texts have"
    return (choose_precision("auto"), reason) if reason else (precision, None)


def load_own(folder: Path, precision: str, head: Collection[str] | None = None) -> Encoder | QuantisedEncoder:
    """Our own encoder, in a settled precision; the config must be one that it supports. `head` as in Encoder.load.
    Raises Refused."""
    return QuantisedEncoder.load(folder, head) if precision == "int8" else Encoder.load(folder, precision, head)


def load_encoder(folder: Path, asked: str) -> tuple[Encoder | QuantisedEncoder | ReferenceEncoder, str | None]:
    """Our own encoder where it knows the architecture, transformers elsewhere: the same interface; and, where it isn't
    in int8 although that was asked for, why. Raises Refused."""
    config = read_config(folder)
    precision, reason = settle_precision(config, asked)
    if supports(config):
        return load_own(folder, precision), reason
    return ReferenceEncoder.load(folder, precision), reason


def read_shape(folder: Path, asked: str, size_bytes: int) -> EncoderShape | None:
    """The shape of the encoder in `folder`, where it is served in precision `asked`; None for one of another kind, or
    one whose files, `size_bytes` in all, are too small for the sizes that it claims. Raises Refused, ValueError."""
    config = read_config(folder)
    precision, _ = settle_precision(config, asked)
    if not supports(config) or precision not in DTYPES:
        return None
    shape = EncoderShape.of(Architecture.from_config(config), precision)
    return shape if max(shape.layer_weights, shape.max_tokens * shape.hidden_size) <= size_bytes else None
