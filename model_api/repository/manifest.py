"""manifest.json: what one published version is made of.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from model_api.errors import Refused
from model_api.repository.accuracy import Accuracy, parse_accuracy
from model_api.repository.bounded_json import BadJson, parse_json, whole_number
from model_api.repository.file_kinds import check_kind
from model_api.repository.units import mb

MANIFEST_NAME = "manifest.json"
MAX_SIGNATURE_CHARS = 16_384  # an RSA key of 16,384 bits makes half of that
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # models and versions: a folder, a URL part and a metric label
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
MAX_MANIFEST_BYTES = 8 * 2**20
MAX_FILE_BYTES = 2**50
MAX_MEMORY_BYTES = 2**50
# Every option that a manifest may carry. All of them enter the digest but those that only cost time or memory.
COST_OPTIONS = frozenset({"max_batch_tokens", "unload_first"})


def check_name(kind: str, name: str) -> str:
    """`name` itself if it may name a model or a version; the one place where such names are validated."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise Refused("", f"{kind} {name!r}: 1 to 64 of a-z 0-9 . _ -, the first a letter or a digit")
    return name


def check_path(path: str) -> str:
    """`path` itself if it stays inside a model's folder; the one place where paths of files are validated."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or str(pure) != path or "\\" in path or "\0" in path:
        raise Refused(path, "a path must be relative and stay inside the model's folder")
    return path


@dataclass(frozen=True)
class FileEntry:
    """One file of a version; `path` is relative to the version's folder, with forward slashes."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Probe:
    """Inputs with the outputs that the author saw, in the form of /predict; compared after every load."""

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-2


@dataclass(frozen=True)
class Manifest:
    """One version. `memory_bytes` is the estimated peak of loading; `options` are the task's (pooling, labels, ...)."""

    model: str
    version: str
    task: str
    files: tuple[FileEntry, ...]
    memory_bytes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()
    signature: str = ""  # see signatures.py; not part of the digest
    accuracy: Accuracy | None = None  # of a lower precision, measured at publish; not part of the digest

    @cached_property  # every answer names it
    def digest(self) -> str:
        """sha256 over the files, the task and every option that changes an answer; the version's name is not in it."""
        content = {
            "files": sorted([f.path, f.size_bytes, f.sha256] for f in self.files),
            "task": self.task,
            "options": {k: v for k, v in self.options.items() if k not in COST_OPTIONS},
        }
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def says_the_same(self, other: Manifest) -> bool:
        """Whether a load of either would do and check the same. The digest doesn't tell: it leaves out probes, and the
        options that only cost time or memory."""
        return (self.digest, dict(self.options), self.probes) == (other.digest, dict(other.options), other.probes)

    @property
    def size_bytes(self) -> int:
        return sum(f.size_bytes for f in self.files)

    def to_json(self) -> str:
        """The text of manifest.json. It carries the digest, so that a reader without this code can compare it. Raises
        Refused where no instance would read it."""
        document: dict[str, Any] = {
            "model": self.model,
            "version": self.version,
            "task": self.task,
            "digest": self.digest,
            "memory_bytes": self.memory_bytes,
            "options": dict(self.options),
            "files": [{"path": f.path, "size": f.size_bytes, "sha256": f.sha256} for f in self.files],
            "probes": [
                {
                    "inputs": list(p.inputs),
                    "outputs": list(p.outputs),
                    "parameters": dict(p.parameters),
                    "tolerance": p.tolerance,
                }
                for p in self.probes
            ],
        }
        if self.accuracy is not None:
            document["accuracy"] = self.accuracy.to_document()
        if self.signature:
            document["signature"] = self.signature
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        if len(text.encode()) > MAX_MANIFEST_BYTES:
            raise Refused(MANIFEST_NAME, f"would be longer than {mb(MAX_MANIFEST_BYTES)}: fewer or smaller probes")
        return text

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Parse and check. Raises Refused naming manifest.json if a part is missing or wrong, or the digest is off."""
        try:
            raw = parse_json(text, MAX_MANIFEST_BYTES)
            manifest = cls(
                model=check_name("model", raw["model"]),
                version=check_name("version", raw["version"]),
                task=_task(raw["task"]),
                files=tuple(_file_entry(f) for f in raw["files"]),
                memory_bytes=whole_number(raw["memory_bytes"], "memory_bytes", 0, MAX_MEMORY_BYTES),
                options=dict(raw.get("options") or {}),
                probes=tuple(parse_probe(p) for p in raw.get("probes") or ()),
                signature=_signature(raw.get("signature") or ""),
                accuracy=parse_accuracy(raw["accuracy"]) if raw.get("accuracy") is not None else None,
            )
        except Refused as error:
            raise Refused(MANIFEST_NAME, str(error)) from error
        except BadJson as error:
            raise Refused(MANIFEST_NAME, str(error)) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Refused(MANIFEST_NAME, f"not a valid manifest ({type(error).__name__}: {error})") from error
        if len({f.path for f in manifest.files}) != len(manifest.files) or not manifest.files:
            raise Refused(MANIFEST_NAME, "files must be listed, each once")
        if raw.get("digest") != manifest.digest:
            raise Refused(MANIFEST_NAME, f"digest is {raw.get('digest')!r}, its content gives {manifest.digest!r}")
        return manifest


def _signature(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.isascii() or len(raw) > MAX_SIGNATURE_CHARS:
        raise ValueError("signature")
    return raw


def _task(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.isprintable() or not 0 < len(raw) <= 64:
        raise ValueError(f"task {str(raw)[:80]!r}")
    return raw


def _file_entry(raw: Mapping[str, Any]) -> FileEntry:
    size, sha256 = whole_number(raw["size"], "size", 0, MAX_FILE_BYTES), raw["sha256"]
    if not isinstance(sha256, str) or not SHA256_PATTERN.fullmatch(sha256):
        raise ValueError(f"sha256 {sha256!r}")
    return FileEntry(check_kind(check_path(raw["path"])), size, sha256)


def parse_probe(raw: Mapping[str, Any]) -> Probe:
    """A probe from its JSON form. Raises ValueError, KeyError, TypeError."""
    inputs, outputs = raw["inputs"], raw["outputs"]
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs) or not inputs:
        raise ValueError("a probe has as many outputs as inputs, at least one")
    return Probe(tuple(inputs), tuple(outputs), dict(raw.get("parameters") or {}), float(raw.get("tolerance", 1e-2)))
