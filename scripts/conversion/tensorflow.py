"""BERT's TensorFlow checkpoint as the safetensors, config.json and tokenizer_config.json that transformers reads."""

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from scripts.conversion.bert import transformers_config, transformers_name, write_tokenizer_config
from scripts.conversion.checkpoint import BadCheckpoint, Checkpoint


def convert_checkpoint(prefix: Path, folder: Path, out: Path) -> list[str]:
    """Write the model whose checkpoint is `prefix` and whose bert_config.json and vocab.txt lie in `folder`. Every
    tensor is read back and compared with the checkpoint's, whose checksums are verified. Returns what its author should
    know. Raises BadCheckpoint, OSError."""
    config_file, vocabulary = _beside(folder, "bert_config.json", "config.json"), _beside(folder, "vocab.txt")
    config = json.loads(config_file.read_text("utf-8"))
    checkpoint = Checkpoint(prefix)
    names: dict[str, tuple[str, bool]] = {}
    left_out = []
    for name in checkpoint.entries:
        try:
            known = transformers_name(name)
        except KeyError:
            raise BadCheckpoint(f"it holds {name}, which no BERT has; only BERT's checkpoints are read") from None
        if known is None:
            left_out.append(name)
        else:
            names[name] = known
    if "bert/embeddings/word_embeddings" not in names:
        raise BadCheckpoint("it holds no BERT (no bert/embeddings/word_embeddings)")
    tensors = {}
    for name, (new_name, transposed) in names.items():
        values = checkpoint.read(name)
        tensors[new_name] = np.ascontiguousarray(values.T if transposed else values)
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    with safe_open(out / "model.safetensors", framework="numpy") as written:
        for name, (new_name, transposed) in names.items():
            there = written.get_tensor(new_name)
            if not np.array_equal(there.T if transposed else there, checkpoint.read(name), equal_nan=True):
                raise BadCheckpoint(f"{new_name} differs from the checkpoint's {name}")
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    made = transformers_config(config, shapes)
    (out / "config.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    (out / "vocab.txt").write_bytes(vocabulary.read_bytes())
    write_tokenizer_config(vocabulary, out / "tokenizer_config.json", int(config.get("max_position_embeddings", 512)))
    notes = [f"{len(tensors)} tensors, each compared; checksums verified"]
    if left_out:
        notes.append(f"{len(left_out)} left out, which only training needs ({', '.join(sorted(left_out)[:2])}, ...)")
    return notes


def _beside(folder: Path, *names: str) -> Path:
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise BadCheckpoint(f"{names[0]} is not beside the checkpoint")
    return found
