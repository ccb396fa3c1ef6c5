"""One model as a look finds it published. Stdlib only, Python 3.9."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model_api.repository.manifest import Manifest
from model_api.repository.plain_folders import Accepted
from model_api.repository.refs import Refs


@dataclass(frozen=True)
class Published:
    """`manifests` holds those versions that the refs name and that can be read; `refused` says why not, by version,
    under "" for what concerns the model as a whole (bad refs, a copy that isn't whole, a change that isn't sealed).
    What was read well before and can't be read now is kept, with a reason."""

    name: str
    refs: Refs | None
    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, Path] = field(default_factory=dict)  # version -> folder to copy from
    plain: bool = False  # a plain copy: its files may change under the reader, so never link to them
    accepted: Accepted | None = None  # of a plain copy: what was taken, to be remembered over a restart
    waiting: bool = False  # nothing is wrong: it isn't complete yet, and `refused` says what is waited for
