"""`publish --to host:/efs` against a real sshd: nothing is installed there, and a broken transfer resumes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from model_api.publishing.changes import read_refs
from model_api.publishing.commands.main import main
from model_api.repository.layout import Layout
from model_api.repository.reader import Repository
from model_api.repository.statuses import write_status
from tests.needs import needs
from tests.rigs.model_folders import make_folder
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.ssh_server import SshServer, ssh_server
from tests.rigs.stores import new_store, published, tree

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    needs("rsync")
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return new_store(tmp_path / "efs")


def oldest_python() -> str:
    """A Python 3.9 if this machine has one, as the hosts that authors publish through do; else the one that runs."""
    candidates = [shutil.which("python3.9")]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False).stdout.strip()
        candidates += [str(path) for path in Path(root).glob("versions/3.9*/bin/python3.9")]
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
            return candidate
    return sys.executable


@pytest.fixture
def ssh(server: SshServer, tmp_path: Path) -> str:
    """An ssh command whose far side finds the oldest Python as its python3, and no package of ours."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(oldest_python())
    command = tmp_path / "ssh-to-old-host"
    command.write_text(
        "#!/bin/bash\n"
        f'args=(-F {server.configuration} "${{@:1:$#-1}}")\n'
        f'case "${{!#}}" in\n'
        f'  python3\\ *) exec ssh "${{args[@]}}" "cd /; PATH={tmp_path}/bin:$PATH exec ${{!#}}" ;;\n'
        f'  *) exec ssh "${{args[@]}}" "${{!#}}" ;;\n'
        "esac\n"
    )
    command.chmod(0o755)
    return str(command)


def publish(server: SshServer, ssh: str, layout: Layout, folder: Path, *more: str) -> list[str]:
    return [
        "publish", str(folder), "--model", "mini", "--to", f"{server.host}:{layout.root}", "--ssh", ssh, *more,
    ]  # fmt: skip


def test_a_version_arrives_whole(
    server: SshServer, ssh: str, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path / "a", 1)
    assert main(publish(server, ssh, layout, folder)) == 0
    assert "version 1 is now stable" in capfd.readouterr().out
    there = tree(layout.version("mini", "1"))
    there.pop("manifest.json")
    assert there == tree(folder)
    assert list(layout.incoming("mini").iterdir()) == []
    assert main(publish(server, ssh, layout, folder)) == 0
    assert "its files are whole, and it is stable already" in capfd.readouterr().out
    assert main(publish(server, ssh, layout, make_folder(tmp_path / "b", 2), "--canary", "5", "--version", "v2")) == 0
    refs = read_refs(layout, "mini")
    assert refs.canary is not None
    assert (refs.canary.version, refs.canary.percent) == ("v2", 5)


def test_a_snapshot_with_links_arrives_resolved(server: SshServer, ssh: str, layout: Layout, tmp_path: Path) -> None:
    plain = make_folder(tmp_path / "a")
    snapshot = tmp_path / "models--org--mini" / "snapshots" / "abc"
    (tmp_path / "models--org--mini" / "blobs").mkdir(parents=True)
    for number, (path, content) in enumerate(tree(plain).items()):
        blob = tmp_path / "models--org--mini" / "blobs" / str(number)
        blob.write_bytes(content)
        (snapshot / path).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / path).symlink_to(blob)
    assert main(publish(server, ssh, layout, snapshot)) == 0
    assert not any(file.is_symlink() for file in layout.version("mini", "1").rglob("*"))
    assert tree(plain).items() <= tree(layout.version("mini", "1")).items()


def test_the_other_verbs_work_there_too(
    server: SshServer, ssh: str, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2):
        published(layout, make_folder(tmp_path / str(seed), seed))
    there = ["--to", f"{server.host}:{layout.root}", "--ssh", ssh]
    assert main(["rollback", "mini", *there]) == 0
    assert "version 1 is now stable (was 2)" in capfd.readouterr().out
    assert main(["retire", "mini", "1", *there]) == 3
    assert "is the stable version" in capfd.readouterr().err
    assert main(["models", "--json", *there]) == 0
    assert json.loads(capfd.readouterr().out)["models"][0]["name"] == "mini"
    make_folder(layout.model("loose"))
    assert main(["publish", "--seal", "loose", *there]) == 0
    assert (layout.model("loose") / "SHA256SUMS").is_file()
    new = tmp_path / "new store"
    assert main(["publish", "--init", "--to", f"{server.host}:{new}", "--ssh", ssh]) == 0
    Repository(new).check()


@pytest.mark.parametrize(
    ("to", "words"),
    [("{host}:/nowhere", "never set up"), ("{host}:/proc", "never set up"), ("unknown-host.invalid:/efs", "")],
)
def test_a_failure_is_told_and_is_exit_1(
    server: SshServer, ssh: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], to: str, words: str
) -> None:
    folder = make_folder(tmp_path / "a")
    command = ["publish", str(folder), "--model", "mini", "--to", to.format(host=server.host), "--ssh", ssh]
    assert main(command) == 1
    assert words in capfd.readouterr().err


def test_a_taken_version_is_refused_over_there_too(
    server: SshServer, ssh: str, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    published(layout, make_folder(tmp_path / "1", 1))
    assert main(publish(server, ssh, layout, make_folder(tmp_path / "2", 2), "--version", "1")) == 3
    assert "never overwritten" in capfd.readouterr().err


def throttled_rsync(tmp_path: Path, kb_per_s: int) -> Mapping[str, str]:
    """An environment in which rsync is slow enough to be interrupted on purpose."""
    real = shutil.which("rsync")
    folder = tmp_path / "slow-bin"
    folder.mkdir()
    (folder / "rsync").write_text(f'#!/bin/sh\nexec {real} --bwlimit={kb_per_s} "$@"\n')
    (folder / "rsync").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_broken_transfer_resumes_where_it_was(server: SshServer, ssh: str, layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", 1, rows=160_000)  # 20 MB
    published(layout, make_folder(tmp_path / "0", 0))
    command = [sys.executable, "-m", "model_api", *publish(server, ssh, layout, folder, "--no-check")]
    slow = throttled_rsync(tmp_path, 8000)
    author = subprocess.Popen(command, cwd=ROOT, env=slow, start_new_session=True)

    def arrived_bytes() -> int:
        files = layout.incoming("mini").glob("*/*.safetensors")
        return sum(file.stat().st_size for file in files)

    wait_until(lambda: arrived_bytes() > 3_000_000, what="a part of the weights")
    os.killpg(author.pid, signal.SIGKILL)
    author.wait()
    assert Repository(layout.root).observe(None)["mini"].refused == {}
    part_bytes = arrived_bytes()
    assert part_bytes < 20_000_000
    (upload,) = layout.incoming("mini").iterdir()

    def lock_is_free() -> bool:
        return subprocess.run(["flock", "--nonblock", upload / ".lock", "true"], check=False).returncode == 0

    needs("flock")
    wait_until(lock_is_free, what="the far side noticing that its author is gone")
    assert main(publish(server, ssh, layout, folder)) == 0
    refs = read_refs(layout, "mini")
    assert refs.stable is not None
    assert refs.stable.version == "2"
    assert list(layout.incoming("mini").iterdir()) == []


def test_what_arrived_damaged_is_sent_again(
    server: SshServer, ssh: str, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path / "a", 1)
    other = make_folder(tmp_path / "b", 2)
    from model_api.publishing.draft import draft

    digest = draft(folder, "mini", lambda done, total: None).manifest.digest
    upload = layout.incoming("mini") / f"resumable-{digest}"
    upload.mkdir(parents=True)
    shutil.copy(other / "model.safetensors", upload)
    info = (folder / "model.safetensors").stat()
    os.utime(upload / "model.safetensors", ns=(info.st_atime_ns, info.st_mtime_ns))  # rsync believes that it has it
    assert main(publish(server, ssh, layout, folder)) == 3
    assert "model.safetensors: arrived damaged and was removed" in capfd.readouterr().err
    assert not layout.refs("mini").exists()
    assert main(publish(server, ssh, layout, folder)) == 0
    assert tree(folder).items() <= tree(layout.version("mini", "1")).items()


def test_wait_follows_the_far_sides_statuses(
    server: SshServer, ssh: str, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stop = threading.Event()

    def model() -> Mapping[str, Any]:
        stable = read_refs(layout, "mini").stable
        return {"name": "mini", "version": "1", "digest": stable.digest if stable else None}

    def beat() -> None:
        while not stop.wait(0.05):
            write_status(layout.statuses, "i-1", {"models": [model()]})

    instance = threading.Thread(target=beat)
    instance.start()
    started_s = time.monotonic()
    try:
        assert main(publish(server, ssh, layout, make_folder(tmp_path / "a"), "--wait")) == 0
    finally:
        stop.set()
        instance.join()
    assert time.monotonic() - started_s < 60
    assert "i-1: serving" in capfd.readouterr().out
