"""Which kinds of file a model may be made of: known by their names, whoever lists them.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from model_api.errors import Refused

ACCEPTED = frozenset(
    {".safetensors", ".json", ".jsonl", ".txt", ".model", ".spm", ".bpe", ".vocab", ".jinja", ".yaml", ".yml", ".csv"}
    | {".md", ".rst", ".pdf", ".png", ".jpg", ".jpeg", ".svg"}
)
DOCUMENTS = frozenset({"license", "licence", "notice", "readme", "copying", "authors", "use_policy"})
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".ot", ".mar"})
OTHER_WEIGHTS = frozenset({".h5", ".msgpack", ".onnx", ".pb", ".tflite", ".gguf", ".ggml", ".keras", ".mlmodel"})
WHAT_IS_ACCEPTED = "accepted are safetensors weights with their JSON, tokenizer and text files"


def check_kind(path: str, advice: str = "") -> str:
    """`path` itself if a model may have such a file; `advice` is for who finds a pickle. A name that begins with a dot
    is nobody's to publish: an instance keeps things of its own under such names. Raises Refused."""
    pure = PurePosixPath(path)
    suffix = pure.suffix.lower()
    if not path.isprintable():
        raise Refused(ascii(path), "a control character in its name")
    if any(part.startswith(".") for part in pure.parts):
        raise Refused(path, "a name that begins with a dot, which no file of a model has")
    if suffix in PICKLES:
        raise Refused(path, f"may be a pickle, which runs code when it is loaded; {WHAT_IS_ACCEPTED}{advice}")
    if suffix in OTHER_WEIGHTS:
        raise Refused(path, f"weights in a format that is not served; {WHAT_IS_ACCEPTED}")
    if suffix not in ACCEPTED and pure.stem.lower() not in DOCUMENTS and suffix != "":
        raise Refused(path, f"not a file that a model is made of; {WHAT_IS_ACCEPTED}")
    return path
