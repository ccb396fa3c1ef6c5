"""With a list of trusted signers, a writer of the store can't have anything served that none of them signed."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from model_api.errors import Refused, RepositoryError
from model_api.publishing.commands.main import main
from model_api.repository.accuracy import Accuracy
from model_api.repository.manifest import FileEntry, Manifest, Probe
from model_api.repository.signatures import sign, signer
from tests.needs import needs
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import server

MANIFEST = Manifest("team-a-mini", "1", "embedding", (FileEntry("config.json", 1, "0" * 64),), 1000)


@dataclass(frozen=True)
class Keys:
    folder: Path
    signers: Path

    def key(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """alice may sign team-a's models, carol all; mallory isn't listed."""
    needs("ssh-keygen")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("alice", "carol", "mallory"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name, "-C", name], check=True)

    def public(name: str) -> str:
        return " ".join((folder / f"{name}.pub").read_text().split()[:2])

    signers = folder / "allowed_signers"
    signers.write_text(
        f'alice@example.org namespaces="model/team-a-*" {public("alice")}\ncarol@example.org {public("carol")}\n'
    )
    return Keys(folder, signers)


def signed(manifest: Manifest, key: str) -> Manifest:
    return replace(manifest, signature=sign(manifest, key))


def test_a_signature_holds_the_measured_accuracy(keys: Keys) -> None:
    measured = Accuracy("int8", 64, 0.9, 0.95, 0.2, 0.8, 30, None)
    by_alice = signed(replace(MANIFEST, accuracy=measured), keys.key("alice"))
    assert signer(by_alice, keys.signers) == "alice@example.org"
    for other in (None, replace(measured, min_cosine=0.999)):
        with pytest.raises(Refused):
            signer(replace(by_alice, accuracy=other), keys.signers)


def test_who_is_listed_may_sign(keys: Keys) -> None:
    by_alice = signed(MANIFEST, keys.key("alice"))
    assert signer(by_alice, keys.signers) == "alice@example.org"
    there_and_back = Manifest.from_json(replace(by_alice, version="7").to_json())
    assert signer(there_and_back, keys.signers) == "alice@example.org"  # the store gives the version its name
    assert there_and_back.digest == MANIFEST.digest


def test_nobody_else_and_nothing_else(keys: Keys) -> None:
    by_alice = signed(MANIFEST, keys.key("alice"))
    others = {
        "unsigned": MANIFEST,
        "mallory's": signed(MANIFEST, keys.key("mallory")),
        "another model of hers": replace(by_alice, model="team-a-other"),
        "a model that isn't hers": signed(replace(MANIFEST, model="team-b-mini"), keys.key("alice")),
        "other files": replace(by_alice, files=(FileEntry("config.json", 2, "0" * 64),)),
        "another task": replace(by_alice, task="summarization"),
        "an option": replace(by_alice, options={"pooling": "cls"}),
        "a cost option": replace(by_alice, options={"unload_first": True}),
        "an estimate": replace(by_alice, memory_bytes=1),
        "a probe": replace(by_alice, probes=(Probe(("a",), (1,)),)),
        "garbage": replace(
            by_alice, signature="-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n"
        ),
        "an option of ssh-keygen": replace(by_alice, signature="-f /etc/passwd"),
    }
    for what, manifest in others.items():
        with pytest.raises(Refused):
            raise AssertionError(f"{what}: {signer(manifest, keys.signers)}")


def test_a_list_that_cannot_be_read_refuses_nothing_for_good(keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="can't be read") as caught:
        signer(signed(MANIFEST, keys.key("carol")), tmp_path / "nowhere")
    assert not isinstance(caught.value, Refused)


def test_a_key_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="not signed"):
        sign(MANIFEST, str(tmp_path / "nowhere"))


@pytest.mark.integration
def test_an_instance_serves_what_is_signed(
    keys: Keys, tmp_path: Path, tiny_author: Author, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_author.layout.root

    def publish(name: str, key: str, seed: int) -> int:
        folder = tiny_model(tmp_path / f"{name}-{seed}", seed)
        return main(["publish", str(folder), "--model", name, "--root", str(root), "--sign", keys.key(key)])

    assert publish("team-a-mini", "alice", 3) == 0
    assert publish("team-b-mini", "alice", 4) == 0
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=root, MODEL_API_TRUSTED_SIGNERS=keys.signers) as api:
        api.wait_until_ready()
        assert api.wait_for_model("team-a-mini")["state"] == "serving"
        assert "not signed," in api.wait_for_model("tiny", state="refused")["refused"][0]["reason"]
        assert "trusted for model/team-b-mini" in api.wait_for_model("team-b-mini")["refused"][0]["reason"]
        # Whoever writes the store puts other weights under the signed name: the signed ones go on.
        tiny_author.publish(tiny_model(tmp_path / "evil", 5), "team-a-mini")
        wait_until(lambda: "not signed" in json.dumps(api.get("/models/team-a-mini").json()["refused"]), within_s=30)
        assert api.wait_for_model("team-a-mini", version="1")["state"] == "degraded"
        # The same content, signed later: nothing is copied, and the version has its signature.
        assert publish("tiny", "carol", 1) == 0
        assert "already" in capsys.readouterr().out
    assert json.loads((tiny_author.layout.version("tiny", "1") / "manifest.json").read_text())["signature"]
    with server(tmp_path / "again", MODEL_API_EFS_ROOT=root, MODEL_API_TRUSTED_SIGNERS=keys.signers) as api:
        api.wait_for_model("tiny", state="serving")


@pytest.mark.integration
def test_a_key_that_is_taken_off_the_list_counts_at_the_next_web_process(
    keys: Keys, tmp_path: Path, tiny_author: Author
) -> None:
    """Though the version is loaded, and would be taken over."""
    root, signers = tiny_author.layout.root, tmp_path / "signers"
    folder = tiny_model(tmp_path / "signed", 3)
    assert main(["publish", str(folder), "--model", "mini", "--root", str(root), "--sign", keys.key("carol")]) == 0
    signers.write_text(keys.signers.read_text())
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=root, MODEL_API_TRUSTED_SIGNERS=signers) as api:
        api.wait_for_model("mini", state="serving")
        signers.write_text(keys.signers.read_text().splitlines()[0] + "\n")
        (web,) = api.pids_by_role()["web"]
        os.kill(web, signal.SIGKILL)
        wait_until(lambda: web not in api.pids_by_role()["web"])
        refused = api.wait_for_model("mini", state="refused", within_s=60)["refused"]
        assert "not signed by a key that is trusted" in refused[0]["reason"]
        wait_until(lambda: not api.pids_by_role()["leader"], within_s=30, what="an end of its processes")
