"""Is this folder a model that may be served? One judgement for publishing authors and for plain copies on EFS.

A model is every file in the folder whose name doesn't begin with a dot, but manifest.json and SHA256SUMS, which
describe it. Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_files import read_bounded
from model_api.repository.bounded_json import BadJson, check_syntax, parse_json
from model_api.repository.file_kinds import WHAT_IS_ACCEPTED, check_kind
from model_api.repository.known_tasks import infer_task
from model_api.repository.manifest import MANIFEST_NAME, check_path
from model_api.repository.safetensors_header import Incomplete, Tensor, read_tensors

SUMS_NAME = "SHA256SUMS"
DESCRIBING = frozenset({MANIFEST_NAME, SUMS_NAME})
MAX_JSON_BYTES = 64 * 2**20  # the largest tokenizer.json in use has 34 MB
# What any part of a release reads; other JSON (a training log with a NaN in it) only has to be JSON.
READ_JSON = frozenset(
    {"config.json", "modules.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    | {"generation_config.json", "sentence_bert_config.json", "config_sentence_transformers.json"}
)


def list_files(folder: Path, exclude: Sequence[str] = (), links: bool = True) -> dict[str, Path]:
    """The model's files by relative path, sorted; the value is where the bytes really are.

    A symbolic link is followed where it stays inside the folder or, in a Hugging Face cache, inside the same
    repository's blobs; with `links` false every link is refused. Raises Refused naming the file; OSError.
    """
    base = folder.resolve(strict=True)
    roots = [base]
    if base.parent.name == "snapshots":
        roots.append(base.parent.parent / "blobs")
    found: dict[str, Path] = {}

    def visit(directory: Path, prefix: str) -> None:
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                path = prefix + entry.name
                if entry.name.startswith(".") or any(fnmatch.fnmatch(path, pattern) for pattern in exclude):
                    continue
                target = Path(entry.path)
                if entry.is_symlink():
                    target = _follow(target, path, roots, links)
                mode = target.stat().st_mode
                if stat.S_ISDIR(mode):
                    if entry.is_symlink():
                        raise Refused(path, "a symbolic link to a folder; copy the folder itself")
                    visit(target, path + "/")
                elif not stat.S_ISREG(mode):
                    raise Refused(path, "neither a file nor a folder")
                elif path not in DESCRIBING:
                    found[check_path(path)] = target

    visit(base, "")
    return found


def _follow(link: Path, path: str, roots: Sequence[Path], links: bool) -> Path:
    if not links:
        raise Refused(path, "a symbolic link; copy what it points to (rsync -aL, or scp -r)")
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise Refused(path, "a symbolic link that points nowhere") from error
    if not any(root in target.parents for root in roots):
        raise Refused(path, "a symbolic link that points outside the model's folder")
    return target


def check_files(files: Mapping[str, Path], max_json_bytes: int = 2**40) -> list[Tensor]:
    """Check names and structure; return all tensors. Raises Incomplete where a copy in progress would look the same,
    Refused for what more bytes can't mend; OSError. JSON files above `max_json_bytes` are not parsed."""
    for path in files:
        check_kind(path, "; the safetensors beside it suffice: leave it out" if _has_weights(files) else "")
    documents = {
        path: read_json(files, path) if file.stat().st_size <= max_json_bytes else None
        for path, file in files.items()
        if path.endswith(".json")
    }
    tensors: list[Tensor] = []
    for path, file in files.items():
        if path.endswith(".safetensors"):
            tensors += read_tensors(file, path)
    _check_weights(files, documents)
    if not isinstance(documents.get("config.json", _transformer(documents)), dict):
        raise Incomplete("config.json", "missing; without it nobody can tell what the weights are")
    _check_modules(files, documents)
    _check_tokenizer(files, documents)
    return tensors


def _has_weights(files: Mapping[str, Path]) -> bool:
    return any(path.endswith(".safetensors") for path in files)


def read_json(files: Mapping[str, Path], path: str) -> Any:
    """A JSON file's content; None for one that nothing is read from. Raises Incomplete if it doesn't parse (half a file
    looks like that too), Refused for no file at all or far too much of it; OSError."""
    try:
        data = read_bounded(files[path], MAX_JSON_BYTES)
        if PurePosixPath(path).name in READ_JSON or path.endswith(".index.json"):
            return parse_json(data, MAX_JSON_BYTES)
        check_syntax(data, MAX_JSON_BYTES)
        return None
    except Refused as error:  # it names the blob that a link led to
        raise Refused(path, error.reason) from None
    except BadJson as error:
        raise Incomplete(path, f"not valid JSON ({error})") from None


def _check_weights(files: Mapping[str, Path], documents: Mapping[str, Any]) -> None:
    for path, document in documents.items():
        if not path.endswith(".safetensors.index.json"):
            continue
        parent = PurePosixPath(path).parent
        shards = document.get("weight_map") if isinstance(document, dict) else None
        if not isinstance(shards, dict) or not shards or not all(isinstance(s, str) for s in shards.values()):
            raise Refused(path, "its weight_map names no shards")
        for shard in sorted(set(shards.values())):
            if str(parent / check_path(shard)) not in files:
                raise Incomplete(str(parent / shard), f"missing; {path} lists this shard")
    if not _has_weights(files):
        raise Incomplete("model.safetensors", f"missing; {WHAT_IS_ACCEPTED}")


def _transformer(documents: Mapping[str, Any]) -> Any:
    """config.json of a sentence-transformers folder that keeps its transformer in a sub-folder."""
    modules = documents.get("modules.json")
    first = modules[0] if isinstance(modules, list) and modules else None
    path = first.get("path") if isinstance(first, dict) else None
    return documents.get(f"{path}/config.json") if path else None


def _check_modules(files: Mapping[str, Path], documents: Mapping[str, Any]) -> None:
    """Every part that a sentence-transformers model declares must be there: without its pooling it answers wrongly."""
    modules = documents.get("modules.json")
    if modules is None:
        telling = [p for p in ("config_sentence_transformers.json", "sentence_bert_config.json") if p in documents]
        telling += [path for path in documents if path.endswith("_Pooling/config.json")]
        if telling or _card_names_sentence_transformers(files):
            raise Incomplete(
                "modules.json", f"missing, though {(telling or ['README.md'])[0]} says that it belongs here"
            )
        return
    if not isinstance(modules, list) or not all(
        isinstance(m, dict) and isinstance(m.get("path"), str) and isinstance(m.get("type"), str) for m in modules
    ):
        raise Refused("modules.json", "not a list of modules with a path and a type")
    for module in modules:
        folder = module["path"]
        if folder:
            check_path(folder)
        kind = module["type"].rsplit(".", 1)[-1]
        if kind in ("Transformer", "Pooling", "Dense"):
            config = f"{folder}/config.json" if folder else "config.json"
            if config not in documents:
                raise Incomplete(config, "missing; modules.json lists this module")


def _card_names_sentence_transformers(files: Mapping[str, Path]) -> bool:
    card = files.get("README.md")
    if card is None:
        return False
    head = card.read_bytes()[:4096]
    return head.startswith(b"---") and b"library_name: sentence-transformers" in head


def _check_tokenizer(files: Mapping[str, Path], documents: Mapping[str, Any]) -> None:
    """tokenizer.json, or a vocab.txt that the config vouches for."""
    if any(PurePosixPath(path).name == "tokenizer.json" for path in files):
        return
    for path, file in files.items():
        if PurePosixPath(path).name != "vocab.txt":
            continue
        config = documents.get("config.json") or _transformer(documents)
        n_lines = len(file.read_bytes().splitlines())
        wanted = config.get("vocab_size") if isinstance(config, dict) else None
        if n_lines == wanted:
            return
        raise Incomplete(path, f"{n_lines} entries, config.json says {wanted}; add tokenizer.json to serve it as it is")
    raise Incomplete(
        "tokenizer.json",
        "missing; make it with AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) from transformers",
    )


def infer_task_of(files: Mapping[str, Path]) -> str:
    """The task that the model's own files speak of. Raises Refused where they don't say."""
    return infer_task(read_json(files, "config.json") if "config.json" in files else None, "modules.json" in files)
