"""Is this folder a model that may be served? One judgement, for publishing authors and for plain copies on EFS.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_files import read_bounded
from model_api.repository.bounded_json import BadJson, check_syntax, parse_json
from model_api.repository.file_kinds import judge_content, judge_name
from model_api.repository.folder_files import is_excluded, list_files
from model_api.repository.generation_settings import GENERATION_FILE
from model_api.repository.known_tasks import judge_task, reads_text
from model_api.repository.loaded_files import (
    CONFIG_FILE,
    MAX_JSON_BYTES,
    VOCABULARY_FILE,
    below,
    beside_the_model,
    read_by_load,
    tokenizer_file,
    told_below,
    weight_files,
)
from model_api.repository.model_config import named_architecture
from model_api.repository.near_names import rename_it
from model_api.repository.problem import Problem, refuse
from model_api.repository.safetensors_header import Incomplete, Tensor, read_tensors
from model_api.repository.sentence_modules import MODULES_FILE, join, read_modules, transformer_folder
from model_api.repository.task_inference import infer_task

__all__ = ["Judgement", "check_files", "check_model", "infer_task_of", "is_excluded", "judge", "list_files"]


# What any part of a release reads; other JSON (a training log with a NaN in it) only has to be JSON.
READ_JSON = frozenset(
    {"config.json", "modules.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    | {"generation_config.json", "config_sentence_transformers.json", "config_setfit.json"}
)


def _is_read(path: str) -> bool:
    name = PurePosixPath(path).name
    return name in READ_JSON or name.endswith(".index.json") or (name.startswith("sentence_") and "_config" in name)


@dataclass
class Judgement:
    """What was found of a folder. `task` is the given one, else what its files speak of, "" where they don't; `unread`
    are the paths that no load reads."""

    task: str
    tensors: list[Tensor] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Keep a Refused as one problem more, unless that file has one already."""
        try:
            yield
        except Refused as error:
            self.note(Problem.of(error))

    def note(self, problem: Problem | None) -> None:
        if problem is not None and problem.path not in {other.path for other in self.problems if other.path}:
            self.problems.append(problem)


def judge(
    files: Mapping[str, Path],
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    max_json_bytes: int = 2**40,
) -> Judgement:
    """Everything that is wrong with the folder, as far as its names, headers and JSON files tell. JSON files above
    `max_json_bytes` are not parsed. Raises OSError alone."""
    found = Judgement(task or "")
    for path, file in files.items():
        found.note(judge_name(path, files) or judge_content(path, file))
    documents: dict[str, Any] = {}
    for path, file in files.items():
        if path.endswith(".json"):
            with found.noting():
                small = file.stat().st_size <= max_json_bytes
                documents[path] = read_json(files, path) if small else None
    _judge_structure(found, files, documents)
    if task is None:
        with found.noting():
            found.task = infer_task(files, documents.get, found.tensors)
    with found.noting():
        folder = transformer_folder(files, documents.get)
        config, generation = (documents.get(join(folder, name)) for name in (CONFIG_FILE, GENERATION_FILE))
        if found.task and isinstance(config, dict):
            parts = (config, found.tensors, options or {}, MODULES_FILE in files, generation)
            for problem in judge_task(found.task, *parts):
                found.note(problem)
    return found


def check_files(files: Mapping[str, Path], max_json_bytes: int = 2**40) -> list[Tensor]:
    """Check names and structure, whatever the task; return the tensors that a load reads. Raises Incomplete where a
    copy in progress would look the same, Refused for what more bytes can't mend; OSError."""
    return _none_wrong(judge(files, "", None, max_json_bytes)).tensors


def check_model(
    files: Mapping[str, Path],
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    max_json_bytes: int = 2**40,
) -> tuple[list[Tensor], str]:
    """As check_files, with all that its task asks of it: the given one, else the one that its files speak of, which is
    returned too."""
    found = _none_wrong(judge(files, task, options, max_json_bytes))
    return found.tensors, found.task


def _none_wrong(found: Judgement) -> Judgement:
    for problem in found.problems:
        refuse(problem)
    return found


def _judge_structure(found: Judgement, files: Mapping[str, Path], documents: Mapping[str, Any]) -> None:
    """Are all files there that a load reads, whole, and is nothing there that it would ignore?"""
    read_document, folder = documents.get, ""
    weights: Sequence[str] = ()
    with found.noting():
        folder = transformer_folder(files, read_document)
    inside, read_inside = below(folder, files, read_document)
    modules = None
    with found.noting():
        modules = read_modules(files, read_document)
    with found.noting():
        if not (modules and modules.static) and not isinstance(read_inside(CONFIG_FILE), dict):
            raise Incomplete(join(folder, CONFIG_FILE), _why_no_config(files))
    with found.noting(), told_below(folder):
        weights = [join(folder, path) for path in weight_files(inside, read_inside)]
    for path in weights:
        with found.noting():
            found.tensors += read_tensors(files[path], path)
    with found.noting():
        _check_modules(files, documents)
    with found.noting(), told_below(folder):
        _check_tokenizer({path: files[join(folder, path)] for path in inside}, read_inside(CONFIG_FILE))
    with contextlib.suppress(Refused):  # noted above
        read = read_by_load(files, read_document)
        found.unread = sorted(path for path in files if path not in read)
        for path in found.unread:
            reason = beside_the_model(path, read)
            if reason:
                parts = PurePosixPath(path).parts
                found.note(Problem(path, reason, f"{parts[0]}/*" if len(parts) > 1 else path))


def _why_no_config(files: Mapping[str, Path]) -> str:
    deeper = sorted(path for path in files if path.endswith(f"/{CONFIG_FILE}") and path.count("/") == 1)
    alone = {path.split("/")[0] for path in files if "/" in path}
    if deeper and len(alone) == 1 and not any(path.endswith(".safetensors") and "/" not in path for path in files):
        return f"missing; the model lies one folder deeper, in {deeper[0].split('/')[0]}/: publish that folder"
    return f"missing; {rename_it(CONFIG_FILE, files) or 'without it nobody can tell what the weights are'}"


def read_json(files: Mapping[str, Path], path: str) -> Any:
    """A JSON file's content; None for one that nothing is read from. Raises Incomplete if it doesn't parse (half a file
    looks like that too), Refused for no file at all or far too much of it; OSError."""
    try:
        data = read_bounded(files[path], MAX_JSON_BYTES)
        if _is_read(path):
            return parse_json(data, MAX_JSON_BYTES)
        check_syntax(data, MAX_JSON_BYTES)
        return None
    except Refused as error:  # it names the blob that a link led to
        raise Refused(path, error.reason) from None
    except BadJson as error:
        raise Incomplete(path, f"not valid JSON ({error})") from None


def _check_modules(files: Mapping[str, Path], documents: Mapping[str, Any]) -> None:
    """Every part that a sentence-transformers model declares must be there: without its pooling it answers wrongly."""
    if MODULES_FILE in files:
        return
    telling = [p for p in ("config_sentence_transformers.json", "sentence_bert_config.json") if p in documents]
    telling += [path for path in documents if path.endswith("_Pooling/config.json")]
    architecture = named_architecture(documents.get(CONFIG_FILE) or {})
    classifies = architecture.endswith("ForSequenceClassification")  # a CrossEncoder of before release 6 has none
    if not classifies and (telling or _card_names_sentence_transformers(files)):
        raise Incomplete(MODULES_FILE, f"missing, though {(telling or ['README.md'])[0]} says that it belongs here")


def _card_names_sentence_transformers(files: Mapping[str, Path]) -> bool:
    card = files.get("README.md")
    if card is None:
        return False
    head = card.read_bytes()[:4096]
    return head.startswith(b"---") and b"library_name: sentence-transformers" in head


def _check_tokenizer(files: Mapping[str, Path], config: Any) -> None:
    """tokenizer.json, or a vocab.txt that the config vouches for."""
    if not reads_text(config):
        return
    path = tokenizer_file(files)
    if path != VOCABULARY_FILE:
        return
    n_lines = len(files[path].read_bytes().splitlines())
    wanted = config.get("vocab_size") if isinstance(config, dict) else None
    if n_lines != wanted:
        raise Incomplete(path, f"{n_lines} entries, config.json says {wanted}; add tokenizer.json to serve it as it is")


def infer_task_of(files: Mapping[str, Path]) -> str:
    """The task that the model's own files speak of. Raises Refused where they don't say."""
    return infer_task(files, lambda path: read_json(files, path) if path in files else None)
