"""Which implementation computes an encoder's hidden states. Model side only: imports torch."""

from pathlib import Path

from model_api.architectures import supports
from model_api.encoder import Encoder
from model_api.processor import choose_precision
from model_api.reference_encoder import ReferenceEncoder
from model_api.weights import read_config


def load_encoder(folder: Path, precision: str) -> Encoder | ReferenceEncoder:
    """Our own encoder where it knows the architecture, transformers elsewhere: the same interface. Raises Refused."""
    precision = choose_precision(precision)
    if supports(read_config(folder)):
        return Encoder.load(folder, precision)
    return ReferenceEncoder.load(folder, precision)
