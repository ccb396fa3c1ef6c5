"""Which files of a model's folder a load reads: one answer, for what publish accepts and for what every loader opens.

Functions take the folder's paths and a way to read one of its JSON files, so that they work on a folder's listing, on
a manifest and in the local store alike. Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_json import read_json
from model_api.repository.file_kinds import HOW_TO_CONVERT, WHAT_IS_ACCEPTED, is_convertible
from model_api.repository.known_tasks import reads_text
from model_api.repository.manifest import check_path
from model_api.repository.near_names import rename_it
from model_api.repository.safetensors_header import Incomplete

ReadJson = Callable[[str], Any]

MAX_JSON_BYTES = 64 * 2**20  # the largest tokenizer.json in use has 34 MB
CONFIG_FILE, MODULES_FILE = "config.json", "modules.json"
SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILE, VOCABULARY_FILE = "tokenizer.json", "vocab.txt"
# Read where they are there, by our own loaders or by transformers.
OPTIONAL = frozenset(
    {"tokenizer_config.json", "sentence_bert_config.json", "generation_config.json", "special_tokens_map.json"}
    | {"added_tokens.json", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt"}
)
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_lasttoken": "lasttoken",
}
_OTHER_POOLING_FLAGS = ("pooling_mode_weightedmean_tokens",)
POOLINGS = tuple(_POOLING_FLAGS.values())
_MODULE_KINDS = ("Transformer", "Pooling", "Normalize")


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
    for file in (TOKENIZER_FILE, VOCABULARY_FILE):
        if file in paths:
            return file
    how = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) from transformers"
    raise Incomplete(TOKENIZER_FILE, f"missing; {rename_it(TOKENIZER_FILE, paths) or f'make it with {how}'}")


@dataclass(frozen=True)
class SentenceModules:
    """What a sentence-transformers model does after its transformer. `pooling` None: it has no Pooling module."""

    configs: tuple[str, ...]
    pooling: str | None
    normalize: bool


def read_modules(paths: Collection[str], read_json: ReadJson) -> SentenceModules | None:
    """What modules.json declares; None for a bare transformer. Raises Refused for what isn't served, since leaving a
    module out changes every answer; Incomplete for a module whose config isn't there."""
    if MODULES_FILE not in paths:
        return None
    modules = read_json(MODULES_FILE)
    if not isinstance(modules, list) or not all(
        isinstance(m, dict) and isinstance(m.get("path"), str) and isinstance(m.get("type"), str) for m in modules
    ):
        raise Refused(MODULES_FILE, "not a list of modules with a path and a type")
    configs, poolings, normalize = [], [], False
    for module in modules:
        kind, folder = module["type"].rsplit(".", 1)[-1], module["path"]
        if kind not in _MODULE_KINDS:
            raise Refused(MODULES_FILE, f"its module {kind} is not served")
        config = f"{check_path(folder)}/config.json" if folder else CONFIG_FILE
        if kind == "Normalize":
            normalize = True
            continue
        if kind == "Transformer" and folder:
            raise Refused(MODULES_FILE, f"it keeps the transformer in {folder}/; only one at the top is served")
        if config not in paths:
            raise Incomplete(config, f"missing; {MODULES_FILE} lists this module")
        configs.append(config)
        if kind == "Pooling":
            poolings.append(_pooling_mode(read_json(config), config))
    if len(poolings) > 1:
        raise Refused(MODULES_FILE, f"it has {len(poolings)} Pooling modules; one is served")
    return SentenceModules(tuple(configs), poolings[0] if poolings else None, normalize)


def _pooling_mode(config: Any, path: str) -> str:
    if not isinstance(config, dict):
        raise Refused(path, "not a JSON object")
    modes = [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)]
    modes += [flag for flag in _OTHER_POOLING_FLAGS if config.get(flag)]
    if not modes and "pooling_mode" in config:
        given = config["pooling_mode"]
        modes = [str(mode) for mode in given] if isinstance(given, list) else [str(given)]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise Refused(path, f"exactly one pooling of {', '.join(POOLINGS)} is served; this asks for {modes}")
    return modes[0]


def read_by_load(paths: Collection[str], read_json: ReadJson) -> frozenset[str]:
    """Every file that a load of the model reads. Raises Refused, Incomplete."""
    read = {CONFIG_FILE, *weight_files(paths, read_json)}
    if reads_text(read_json(CONFIG_FILE)):
        read.add(tokenizer_file(paths))
    if SINGLE_FILE not in read:
        read.add(INDEX_FILE)
    modules = read_modules(paths, read_json)
    if modules is not None:
        read |= {MODULES_FILE, *modules.configs}
    return frozenset(read | (OPTIONAL & set(paths)))


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
