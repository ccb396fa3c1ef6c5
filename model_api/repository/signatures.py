"""Who says that a version is what its model's author published? An SSH signature in its manifest, by a key that the
service's owner lists.

Made and checked by OpenSSH's own `ssh-keygen -Y` (8.2 or later); the owner's list is its ALLOWED SIGNERS file. The
namespace of a signature is `model/NAME`, so that a line of the list may hold its key to some models:
`alice@example.org namespaces="model/team-a-*" ssh-ed25519 AAAA...`
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from model_api.errors import Refused, RepositoryError
from model_api.repository.manifest import COST_OPTIONS, MANIFEST_NAME, Manifest

TIMEOUT_S = 20.0


def namespace(model: str) -> str:
    return f"model/{model}"


def signed_text(manifest: Manifest) -> bytes:
    """What a signature is over: all but the version's name, which is only known once it lies in the store."""
    beside: dict[str, Any] = {
        "memory_bytes": manifest.memory_bytes,
        "options": {name: value for name, value in manifest.options.items() if name in COST_OPTIONS},
        "probes": [
            [list(probe.inputs), list(probe.outputs), dict(probe.parameters), probe.tolerance]
            for probe in manifest.probes
        ],
    }
    if manifest.accuracy is not None:
        beside["accuracy"] = manifest.accuracy.to_document()
    canonical = json.dumps(beside, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    rest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"model manifest 1\n{manifest.model}\n{manifest.digest}\n{rest}\n".encode()


def sign(manifest: Manifest, key: str) -> str:
    """The signature of `key` (a private key's file, or a public one's whose private key is in the agent). Asks for a
    passphrase on the terminal. Raises RepositoryError."""
    command = ["-Y", "sign", "-f", key, "-n", namespace(manifest.model)]
    done = _ssh_keygen(command, signed_text(manifest), None)
    if done.returncode or not done.stdout:
        raise RepositoryError(f"not signed: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout.decode("ascii")


def signer(manifest: Manifest, allowed_signers: Path) -> str:
    """Who signed it, as the list names them. Raises Refused unless that is somebody on the list whose key may sign
    this model; RepositoryError if that can't be found out."""
    if not allowed_signers.is_file():
        raise RepositoryError(f"the list of trusted signers, {allowed_signers}, can't be read")
    if not manifest.signature:
        raise Refused(MANIFEST_NAME, "not signed, and this service serves only what a trusted key signed")
    with tempfile.NamedTemporaryFile("w", suffix=".sig", encoding="utf-8") as file:
        file.write(manifest.signature)
        file.flush()
        by = ["-s", file.name, "-f", str(allowed_signers)]
        found = _ssh_keygen(["-Y", "find-principals", *by], b"", TIMEOUT_S)
        for name in found.stdout.decode(errors="replace").split("\n") if not found.returncode else ():
            checked = ["-Y", "verify", "-I", name.strip(), "-n", namespace(manifest.model), *by]
            if name.strip() and not _ssh_keygen(checked, signed_text(manifest), TIMEOUT_S).returncode:
                return name.strip()
    raise Refused(MANIFEST_NAME, f"not signed by a key that is trusted for {namespace(manifest.model)}")


def _ssh_keygen(arguments: list[str], text: bytes, timeout_s: float | None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments], input=text, capture_output=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise RepositoryError("ssh-keygen isn't installed here; signatures need it") from None
    except subprocess.TimeoutExpired:
        raise RepositoryError("ssh-keygen doesn't answer") from None
