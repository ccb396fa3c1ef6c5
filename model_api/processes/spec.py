"""The order for a leader: what it is to load, from where, and within which limits."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from model_api.repository.manifest import Manifest

HEARTBEAT_S = 2.0  # a leader that has loaded its model says this often that it is alive
ENCODER_INDEX = -1  # among a leader's children, of the one that is no lane
KEY_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class LeaderSpec:
    """Sent as one message. `source` is the version's folder on the shared file system; `immutable` says that nobody
    writes there any more. `protected` are digests whose local copies must not make room for this one. `recheck_s`: how
    often the loaded copy is compared with its digest. `trusted_signers`: the file of who may sign; None: anybody may
    publish."""

    manifest: Manifest
    source: str
    immutable: bool
    protected: tuple[str, ...]
    local_store: str
    store_budget_bytes: int | None
    precision: str
    lanes: int
    recheck_s: float
    trusted_signers: str | None

    def to_message(self) -> dict[str, Any]:
        return {**vars(self), "manifest": self.manifest.to_json()}

    def key(self) -> str:
        """The same for orders that come to the same loaded version: a hash over all but `protected`, in hex."""
        message = {name: value for name, value in self.to_message().items() if name != "protected"}
        return hashlib.sha256(orjson.dumps(message, option=orjson.OPT_SORT_KEYS)).hexdigest()

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "LeaderSpec":
        """Raises Refused if the manifest is not one that this release knows."""
        manifest = Manifest.from_json(message["manifest"])
        return cls(**{**message, "manifest": manifest, "protected": tuple(message["protected"])})
