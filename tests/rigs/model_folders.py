"""Small model folders in Hugging Face layout, made without torch: whole in structure, not meant to be loaded."""

import json
import random
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def safetensors_bytes(tensors: Mapping[str, tuple[int, ...]], seed: int = 0) -> bytes:
    """A safetensors file of float32 tensors with random content."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in tensors.items():
        n_bytes = 4
        for length in shape:
            n_bytes *= length
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [position, position + n_bytes]}
        position += n_bytes
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + random.Random(seed).randbytes(position)


def make_folder(folder: Path, seed: int = 0, rows: int = 64, sentence_transformers: bool = True) -> Path:
    """An encoder whose weights depend on `seed`; all of its files have the same sizes whatever the seed."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 32, "vocab_size": 8, "seed": seed}
    vocabulary = {f"word{index}": index for index in range(8)}
    files: dict[str, Any] = {
        "config.json": config,
        "tokenizer.json": {"version": "1.0", "model": {"type": "WordPiece", "vocab": vocabulary}, "seed": seed},
        "tokenizer_config.json": {"do_lower_case": True},
    }
    if sentence_transformers:
        files["modules.json"] = [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ]
        files["1_Pooling/config.json"] = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
        files["config_sentence_transformers.json"] = {"__version__": {"sentence_transformers": "2.0.0"}}
    for path, document in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(document))
    tensors = {"embeddings.word_embeddings.weight": (8, 32), "encoder.layer.0.weight": (rows, 32)}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors, seed))
    return folder


def shard(folder: Path) -> Path:
    """Split the folder's weights into two shards with an index."""
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    (folder / names[0]).write_bytes(safetensors_bytes({"embeddings.weight": (8, 32)}, 1))
    (folder / names[1]).write_bytes(safetensors_bytes({"encoder.weight": (64, 32)}, 2))
    index = {"metadata": {}, "weight_map": {"embeddings.weight": names[0], "encoder.weight": names[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
