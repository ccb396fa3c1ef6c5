"""Which implementation computes an encoder's hidden states. Model side only: imports torch."""

from pathlib import Path

from model_api.compute.architectures import supports
from model_api.compute.encoder import Encoder
from model_api.compute.processor import choose_precision
from model_api.compute.transformers_encoder import ReferenceEncoder
from model_api.compute.weights import read_config


def load_encoder(folder: Path, precision: str) -> Encoder | ReferenceEncoder:
    """Our own encoder where it knows the architecture, transformers elsewhere: the same interface. Raises Refused."""
    precision = choose_precision(precision)
    if supports(read_config(folder)):
        return Encoder.load(folder, precision)
    return ReferenceEncoder.load(folder, precision)
