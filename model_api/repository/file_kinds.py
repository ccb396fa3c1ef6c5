"""Which kinds of file a model may be made of, judged by name, and by a few bytes where the name lies.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from model_api.errors import Refused
from model_api.repository.problem import Problem

_READ_BY_PEOPLE = frozenset({".md", ".rst", ".pdf", ".png", ".jpg", ".jpeg", ".svg"})
ACCEPTED = _READ_BY_PEOPLE | frozenset(
    {".safetensors", ".json", ".jsonl", ".txt", ".model", ".spm", ".bpe", ".vocab", ".jinja", ".yaml", ".yml", ".csv"}
)
DOCUMENTS = frozenset({"license", "licence", "notice", "readme", "copying", "authors", "use_policy"})
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".ot", ".mar"})
OTHER_WEIGHTS = frozenset(
    {".h5", ".msgpack", ".onnx", ".onnx_data", ".pb", ".tflite", ".gguf", ".ggml", ".keras", ".mlmodel"}
)
ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"})
_TENSORFLOW = (".data-00000-of-00001", ".ckpt.index", ".ckpt.meta")
WHAT_IS_ACCEPTED = "accepted are safetensors weights with their JSON, tokenizer and text files"
HOW_TO_CONVERT = "scripts/convert DIR OUT makes safetensors of it"
_SETFIT = (
    "the classifier of a SetFit model, as a pickle, which is never read: without it the model answers nothing that it"
    " was trained for. Train the head as a model of its own (AutoModelForSequenceClassification)"
)
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_POINTER_BYTES = 1024
_UNDECODABLE = re.compile("[\udc80-\udcff]")


def is_convertible(path: str) -> bool:
    """Whether scripts/convert makes safetensors of it: PyTorch's pickles, and TensorFlow's checkpoints."""
    return PurePosixPath(path).suffix.lower() in (".bin", ".pt", ".pth") or path.endswith(".ckpt.index")


def is_document(path: str) -> bool:
    """Whether people read it, and no load is expected to."""
    pure = PurePosixPath(path)
    return pure.suffix.lower() in _READ_BY_PEOPLE or pure.stem.lower() in DOCUMENTS


def check_kind(path: str) -> str:
    """`path` itself if a model may have such a file. Raises Refused."""
    problem = judge_name(path, (path,))
    if problem is not None:
        raise Refused(problem.path, problem.reason)
    return path


def judge_name(path: str, paths: Collection[str]) -> Problem | None:
    """What is wrong with a file of that name among `paths`. None: nothing. A name that begins with a dot is nobody's to
    publish: an instance keeps things of its own under such names."""
    pure = PurePosixPath(path)
    suffix = pure.suffix.lower()
    everywhere = f"*{pure.suffix}"
    if not path.isprintable():
        # What has no encoding can't be typed either: any character stands for it.
        what = "bytes that aren't UTF-8" if _UNDECODABLE.search(path) else "a control character"
        return Problem(ascii(path), f"{what} in its name", _UNDECODABLE.sub("?", path))
    if any(part.startswith(".") for part in pure.parts):
        return Problem(path, "a name that begins with a dot, which no file of a model has", path)
    if suffix in ACCEPTED or pure.stem.lower() in DOCUMENTS or suffix == "":
        return None
    # Leaving the file out mends the folder only where other weights are there.
    beside_it = pure.parent.as_posix() if pure.parent.name[:1].isdigit() else ""  # 2_Dense has weights of its own
    suffices = any(o.endswith(".safetensors") and PurePosixPath(o).is_relative_to(beside_it) for o in paths)
    beside = "; the safetensors beside it suffice: leave it out" if suffices else f"; {HOW_TO_CONVERT}"
    if path.endswith(_TENSORFLOW):
        return Problem(path, f"TensorFlow's weights{beside}", f"*{''.join(pure.suffixes)}" if suffices else "")
    if suffix in PICKLES and pure.stem == "model_head":
        return Problem(path, _SETFIT)
    if suffix in PICKLES:
        beside = beside if suffices or is_convertible(path) else ""
        why = f"may be a pickle, which runs code when it is loaded; {WHAT_IS_ACCEPTED}{beside}"
        return Problem(path, why, everywhere if suffices or not is_convertible(path) else "")
    if suffix in OTHER_WEIGHTS:
        return Problem(path, f"weights in a format that is not served; {WHAT_IS_ACCEPTED}", everywhere)
    if suffix in ARCHIVES:
        return Problem(path, "an archive; unpack it, or leave it out", everywhere)
    if suffix == ".py":
        return Problem(path, "code, which is never run; leave it out", everywhere)
    return Problem(path, f"not a file that a model is made of; {WHAT_IS_ACCEPTED}", everywhere)


def judge_content(path: str, file: Path) -> Problem | None:
    """A small file that stands for another. Raises OSError."""
    if file.stat().st_size <= _MAX_POINTER_BYTES and file.read_bytes().startswith(_LFS_POINTER):
        return Problem(path, "a Git LFS pointer, not the file itself; run 'git lfs pull' in the clone, then publish")
    return None
