"""`scripts/convert DIR OUT`: make a folder that can be published of one whose weights can't, or of a GGUF file.

PyTorch's pickled weights (pytorch_model.bin and its like) and BERT's TensorFlow checkpoints (*.ckpt) become
safetensors, each in a process without network that can start nothing and writes to OUT alone; every tensor is read back
and compared. So does a decoder in GGUF, where DIR is the file: transformers reads it and takes it out of its
quantisation, in such a process too. The other files are taken over, but for those that no model is made of. OUT must
not exist.
"""

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from model_api.errors import Refused
from model_api.repository.file_kinds import judge_name
from model_api.repository.folder_files import list_files

DONE, FAILED, USAGE, REFUSED = 0, 1, 2, 3
# Of a training run, beside its weights: never a model's tensors.
_OF_TRAINING = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state.*|events.*)\.(bin|pt|pth)")
_SHARD = re.compile(r"pytorch_model(-\d+-of-\d+)\.bin")


def pickles_of(paths: list[str]) -> dict[str, str]:
    """Pickled weights -> the safetensors that they become. In each folder pytorch_model.bin or its shards; where there
    is none, the one other pickle. Raises Refused where it can't be told which."""
    found: dict[str, str] = {}
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name.endswith((".bin", ".pt", ".pth")) and not _OF_TRAINING.fullmatch(name):
            folders.setdefault(folder, []).append(name)
    for folder, names in folders.items():
        shards = [name for name in names if _SHARD.fullmatch(name)]
        chosen = shards or [name for name in names if name == "pytorch_model.bin"] or names
        if len(chosen) > 1 and not shards:
            raise Refused(folder or ".", f"which of these is the model? {', '.join(chosen)}: leave only that")
        for name in chosen:
            shard = _SHARD.fullmatch(name)
            target = f"model{shard[1] if shard else ''}.safetensors"
            found[f"{folder}/{name}".lstrip("/")] = f"{folder}/{target}".lstrip("/")
    return found


def in_sandbox(kind: str, source: Path, target: Path) -> list[str]:
    """Its notes. Raises Refused naming the source."""
    command = [sys.executable, "-m", "scripts.conversion.worker", kind, str(source), str(target)]
    with tempfile.TemporaryFile() as noise:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=noise, stdin=subprocess.DEVNULL, check=False)
        noise.seek(0)
        last = noise.read().decode("utf-8", "replace").strip().splitlines()[-1:]
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        why = last[0] if last else "out of memory?"
        raise Refused(source.name, f"reading it ended with {done.returncode} ({why})") from None
    if "refused" in answer:
        raise Refused(source.name, answer["refused"])
    return [str(note) for note in answer["notes"]]


def convert(folder: Path, out: Path) -> list[str]:
    """Make `out` of `folder`. Returns lines for a person. Raises Refused, OSError; then `out` isn't there."""
    files = list_files(folder)
    checkpoints = sorted(path for path in files if path.endswith(".index") and not path.endswith(".json"))
    pickles = {} if any(path.endswith(".safetensors") for path in files) else pickles_of(list(files))
    if not pickles and not checkpoints:
        raise Refused("", f"{folder} holds nothing to convert: no pytorch_model.bin, no *.ckpt.index (or safetensors)")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    told = []
    try:
        if pickles:
            told += _take_over(files, partial)
            for path, target in pickles.items():
                (partial / target).parent.mkdir(parents=True, exist_ok=True)
                notes = in_sandbox("pickle", files[path], partial / target)
                told.append(f"{path} -> {target}: {'; '.join(notes)}")
            _write_indexes(files, pickles, partial)
        else:
            if len(checkpoints) > 1:
                raise Refused("", f"which of these is the model? {', '.join(checkpoints)}: leave only that")
            index = files[checkpoints[0]]
            prefix = index.with_name(index.name.removesuffix(".index"))
            told.append(f"{checkpoints[0]} -> model.safetensors: {'; '.join(in_sandbox('bert', prefix, partial))}")
        for weights in partial.rglob("*.safetensors"):
            weights.chmod(0o644)  # safetensors keeps them to their owner
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return told


def convert_file(file: Path, out: Path) -> list[str]:
    """Make `out` of one GGUF file. Raises as `convert`."""
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise Refused(file.name, "is not a GGUF file; of anything else name the folder")
    lacking = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if lacking:
        raise Refused("", f"reading GGUF needs {' and '.join(lacking)}: scripts/install -r requirements-gguf.txt")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        told = [f"{file.name} -> model.safetensors: {'; '.join(in_sandbox('gguf', file.resolve(), partial))}"]
        for weights in partial.rglob("*.safetensors"):
            weights.chmod(0o644)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return told


def _take_over(files: dict[str, Path], out: Path) -> list[str]:
    """Copy what a model is made of; a line for what isn't."""
    left_out = []
    for path, file in files.items():
        if path.endswith(".bin.index.json"):
            continue
        if judge_name(path, ("x.safetensors",)) is not None:
            left_out.append(path)
            continue
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, out / path)
    others = [path for path in left_out if not path.endswith((".bin", ".pt", ".pth")) or _OF_TRAINING.search(path)]
    return [f"left out: {', '.join(others)}"] if others else []


def _write_indexes(files: dict[str, Path], pickles: dict[str, str], out: Path) -> None:
    """model.safetensors.index.json for weights in shards: what each holds, read from the shards themselves."""
    from safetensors import safe_open

    shards = [target for target in pickles.values() if "-of-" in target]
    if not shards:
        return
    weight_map = {}
    for target in sorted(shards):
        with safe_open(out / target, framework="numpy") as shard:
            weight_map.update(dict.fromkeys(shard.keys(), Path(target).name))
    index = {"metadata": {}, "weight_map": weight_map}
    folder = (out / shards[0]).parent
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/convert", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path, help="made; scripts/publish takes it then")
    parsed = parser.parse_args()
    try:
        one_file = parsed.folder.is_file()
        if not one_file and not parsed.folder.is_dir():
            raise Refused("", f"{parsed.folder} is not a folder")
        if parsed.out.exists():
            raise Refused("", f"{parsed.out} exists already; name a new folder")
        for line in (convert_file if one_file else convert)(parsed.folder, parsed.out):
            print(line)
    except Refused as error:
        print(f"convert: {' '.join(str(error).split())}", file=sys.stderr)
        return REFUSED
    except OSError as error:
        print(f"convert: {error.strerror or error} ({error.filename})", file=sys.stderr)
        return FAILED
    print(f"{parsed.out} is ready: scripts/publish --check {parsed.out}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
