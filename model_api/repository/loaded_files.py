"""Which files of a model's folder a load reads: one answer, for what publish accepts and for what every loader opens.

Functions take the folder's paths and a way to read one of its JSON files, so that they work on a folder's listing, on
a manifest and in the local store alike. Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_json import read_json
from model_api.repository.file_kinds import HOW_TO_CONVERT, WHAT_IS_ACCEPTED, is_convertible
from model_api.repository.known_tasks import reads_text
from model_api.repository.manifest import check_path
from model_api.repository.near_names import rename_it
from model_api.repository.safetensors_header import Incomplete
from model_api.repository.sentence_modules import ReadJson, join, read_modules

MAX_JSON_BYTES = 64 * 2**20  # the largest tokenizer.json in use has 34 MB
CONFIG_FILE = "config.json"
SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILE, VOCABULARY_FILE, MERGES_FILE = "tokenizer.json", "vocab.txt", "merges.txt"
# Read where they are there, by our own loaders or by transformers.
OPTIONAL = frozenset(
    {"tokenizer_config.json", "sentence_bert_config.json", "generation_config.json", "special_tokens_map.json"}
    | {
        "chat_template.jinja",
        "added_tokens.json",
        "spiece.model",
        "sentencepiece.bpe.model",
        "vocab.json",
        "merges.txt",
    }
)


def reader_of(folder: Path) -> tuple[frozenset[str], ReadJson]:
    """The paths below `folder` and a way to read its JSON files, for a folder that is trusted to be small in number of
    files. The way raises Refused for what isn't JSON. Raises OSError."""
    paths = frozenset(
        (Path(directory) / name).relative_to(folder).as_posix()
        for directory, _, names in os.walk(folder)
        for name in names
    )

    def read(path: str) -> Any:
        return read_json(folder / path, MAX_JSON_BYTES)

    return paths, read


def weight_map(paths: Collection[str], read_json: ReadJson) -> Mapping[str, str] | None:
    """Which shard holds which tensor, as the index names them; None where one file holds all. Raises Incomplete where
    the weights aren't there, naming what is there instead; Refused for an index that names no shards."""
    if SINGLE_FILE in paths:
        return None
    if INDEX_FILE not in paths:
        raise Incomplete(SINGLE_FILE, f"missing; {rename_it(SINGLE_FILE, paths) or _what_is_there_instead(paths)}")
    document = read_json(INDEX_FILE)
    shards = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(shards, dict) or not shards or not all(isinstance(s, str) for s in shards.values()):
        raise Refused(INDEX_FILE, "its weight_map names no shards")
    for shard in sorted(set(shards.values())):
        if check_path(shard) not in paths:
            raise Incomplete(shard, f"missing; {INDEX_FILE} lists this shard")
    return shards


def weight_files(paths: Collection[str], read_json: ReadJson) -> tuple[str, ...]:
    """The files that hold the weights. Raises as `weight_map`."""
    shards = weight_map(paths, read_json)
    return (SINGLE_FILE,) if shards is None else tuple(sorted(set(shards.values())))


def _what_is_there_instead(paths: Collection[str]) -> str:
    weights = sorted(path for path in paths if path.endswith(".safetensors"))
    top = [path for path in weights if "/" not in path]
    adapters = [path for path in top if path.startswith("adapter_")]
    shards = [path for path in top if "-of-" in path]
    if adapters:
        return f"{adapters[0]} alone is a LoRA adapter: merge it into its base (merge_and_unload) and publish that"
    if shards:
        return f"{shards[0]} is a shard, but {INDEX_FILE}, which tells what each holds, isn't there"
    if top:
        return f"a load doesn't read {top[0]}: rename it to {SINGLE_FILE}"
    if weights:
        return f"the weights lie in a sub-folder ({weights[0]}); publish that folder"
    convertible = sorted(path for path in paths if is_convertible(path))
    if convertible:
        return f"there is {convertible[0]}: {HOW_TO_CONVERT}"
    return WHAT_IS_ACCEPTED


def tokenizer_file(paths: Collection[str]) -> str:
    """What the tokenizer is made of. Raises Incomplete."""
    for file in (TOKENIZER_FILE, VOCABULARY_FILE, MERGES_FILE):
        if file in paths and (file != MERGES_FILE or "vocab.json" in paths):
            return file
    how = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) from transformers"
    raise Incomplete(TOKENIZER_FILE, f"missing; {rename_it(TOKENIZER_FILE, paths) or f'make it with {how}'}")


def below(folder: str, paths: Collection[str], read_json: ReadJson) -> tuple[frozenset[str], ReadJson]:
    """What lies in a sub-folder as if it were all: its paths, and a way to read its JSON files."""
    prefix = f"{folder}/" if folder else ""
    inside = frozenset(path[len(prefix) :] for path in paths if path.startswith(prefix))
    return inside, lambda path: read_json(prefix + path)


@contextlib.contextmanager
def told_below(folder: str) -> Iterator[None]:
    """What is Refused in a sub-folder is told by its whole path."""
    try:
        yield
    except Refused as error:
        if not folder:
            raise
        raise type(error)(f"{folder}/{error.path}", error.reason) from None


def read_by_load(paths: Collection[str], read_json: ReadJson) -> frozenset[str]:
    """Every file that a load of the model reads. Raises Refused, Incomplete."""
    modules = read_modules(paths, read_json)
    folder = modules.transformer if modules else ""
    inside, read_inside = below(folder, paths, read_json)
    static = modules is not None and modules.static
    with told_below(folder):
        read = set(weight_files(inside, read_inside))
        if static or reads_text(read_inside(CONFIG_FILE)):
            read.add(tokenizer_file(inside))
    if not static:
        read.add(CONFIG_FILE)
    if SINGLE_FILE not in read:
        read.add(INDEX_FILE)
    read = {join(folder, path) for path in (read | (OPTIONAL & inside))}
    return frozenset(read | set(modules.files if modules else ()))


def beside_the_model(path: str, read: Collection[str]) -> str:
    """Why a file that no load reads must not lie in the folder; "" if it does no harm there."""
    pure = PurePosixPath(path)
    if path in read:
        return ""
    if pure.name.startswith("adapter_"):
        return "a LoRA adapter beside the model would be ignored: merge it (merge_and_unload), or leave it out"
    if path.endswith(".safetensors"):
        weights = min(p for p in read if p.endswith(".safetensors"))
        return f"a load reads {weights}, not this: leave it out"
    if pure.name in (CONFIG_FILE, TOKENIZER_FILE) and len(pure.parts) > 1:
        return "of a second model inside this one: move it out of here, or leave it out"
    return ""
