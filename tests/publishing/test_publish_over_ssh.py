"""`publish --to host:/efs` against a real sshd: nothing is installed there, and a broken transfer resumes."""

import json
import os
import shlex
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
from model_api.publishing.draft import draft
from model_api.publishing.terms import this_author
from model_api.repository.keys import Keys
from model_api.repository.layout import Layout
from model_api.repository.reader import Repository
from model_api.repository.statuses import write_status
from tests.needs import needs
from tests.rigs.instances import Instance, living
from tests.rigs.model_folders import make_folder
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.ssh_server import SshServer, ssh_server
from tests.rigs.stores import new_store, published, quiet, tree

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
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
    assert "published as version 1; instances load it now" in capfd.readouterr().out
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
    assert main(["keys", "create", "--name", "n", "--scope", "predict", *there]) == 0
    token = capfd.readouterr().out.split()[-1]
    assert list(Keys.read(layout.keys).by_id) == [token[:15]]
    assert main(["keys", "revoke", token[:15], *there]) == 0
    assert Keys.read(layout.keys).by_id[token[:15]].revoked is not None
    new = tmp_path / "new store"
    assert main(["publish", "--init", "--to", f"{server.host}:{new}", "--ssh", ssh]) == 0
    Repository(new).check()


@pytest.mark.parametrize("to", ["{host}:/nowhere", "{host}:/proc"])
def test_a_failure_is_told_and_is_exit_1(
    server: SshServer, ssh: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], to: str
) -> None:
    folder = make_folder(tmp_path / "a")
    command = ["publish", str(folder), "--model", "mini", "--to", to.format(host=server.host), "--ssh", ssh]
    assert main(command) == 1
    assert "never set up" in capfd.readouterr().err


def far_shell(server: SshServer, tmp_path: Path, before: str) -> str:
    """An ssh command to a host whose shell runs `before` at every login, as a ~/.bashrc does."""
    command = tmp_path / "ssh-to-odd-host"
    command.write_text(
        f'#!/bin/bash\nargs=(-F {server.configuration} "${{@:1:$#-1}}")\n'
        f'exec ssh "${{args[@]}}" {shlex.quote(before)}"; ${{!#}}"\n'
    )
    command.chmod(0o755)
    return str(command)


def last_line(capfd: pytest.CaptureFixture[str]) -> str:
    error = capfd.readouterr().err
    assert "to resume" not in error
    assert "Traceback" not in error
    return error.splitlines()[-1]


def test_a_far_shell_that_prints_is_told_and_left_aside(
    server: SshServer, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noisy = far_shell(
        server, tmp_path, 'echo Welcome to the cluster; echo; echo {\\"do\\": 1}; echo loading modules >&2'
    )
    assert main(publish(server, noisy, layout, make_folder(tmp_path / "a"))) == 0
    said = capfd.readouterr()
    assert "its shell prints 3 lines at every login ('Welcome to the cluster'" in said.err
    assert "loading modules" in said.err
    assert main(["models", "--json", "--to", f"{server.host}:{layout.root}", "--ssh", noisy]) == 0
    assert json.loads(capfd.readouterr().out)["models"][0]["name"] == "mini"


def test_a_far_shell_that_ends_is_told(
    server: SshServer, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ends = far_shell(server, tmp_path, "exit 0")
    assert main(publish(server, ends, layout, make_folder(tmp_path / "a"))) == 1
    assert "its shell ended (exit 0) before python3 started" in last_line(capfd)


def test_an_old_far_python_is_told_with_the_way_out(
    server: SshServer, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "old-bin"
    folder.mkdir()
    (folder / "python3").write_text(
        "#!/bin/sh\nshift\n"  # what a Python 3.8 makes of our program
        f'exec {sys.executable} -c "import sys; sys.version_info = (3, 8, 10); exec(sys.argv.pop(1))" "$@"\n'
    )
    (folder / "python3").chmod(0o755)
    old = far_shell(server, tmp_path, f"export PATH={folder}:$PATH")
    made = make_folder(tmp_path / "a")
    assert main(publish(server, old, layout, made)) == 1
    assert "python3 is Python 3.8 there, 3.9 or later is needed; --python names another" in last_line(capfd)
    assert main(publish(server, old, layout, made, "--python", sys.executable)) == 0
    assert main(["rollback", "mini", "--to", f"{server.host}:{layout.root}", "--ssh", old]) == 1
    assert "3.9 or later is needed" in last_line(capfd)


def test_a_host_without_python_is_told(
    server: SshServer, ssh: str, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = publish(
        server, f"ssh -F {server.configuration}", layout, make_folder(tmp_path / "a"), "--python", "py39x"
    )
    assert main(command) == 1
    assert "there is no py39x; --python names the one to use" in last_line(capfd)


@pytest.mark.parametrize(
    ("to", "ssh_command", "words"),
    [
        ("unknown-host.invalid:/efs", "ssh", "unknown-host.invalid: unknown host; check the name after --to"),
        ("127.0.0.1:/efs", "ssh -p 1", "nothing answers on its ssh port; another one is named with --ssh"),
        ("{host}:/efs", "ssh -F {configuration} -l nobody-known", "it doesn't let you in"),
        (
            "{host}:/efs",
            "ssh -F {configuration} -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes",
            "host key",
        ),
        ("{host}:/efs", "no-such-ssh", "no-such-ssh isn't installed here"),
    ],
)
def test_who_cannot_connect_hears_why_and_what_to_do(
    server: SshServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], to: str, ssh_command: str, words: str
) -> None:
    ssh_command = ssh_command.format(configuration=server.configuration)
    there = ["--to", to.format(host=server.host), "--ssh", ssh_command]
    assert main(["publish", str(make_folder(tmp_path / "a")), "--model", "mini", *there]) == 1
    assert words in last_line(capfd)
    assert main(["models", *there]) == 1
    assert words in last_line(capfd)


def test_no_rsync_is_needed_on_either_side(
    server: SshServer, ssh: str, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS's speaks an old dialect, Windows has none."""
    folder = tmp_path / "no-rsync"
    folder.mkdir()
    (folder / "rsync").write_text("#!/bin/sh\nexit 1\n")
    (folder / "rsync").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert main(publish(server, ssh, layout, make_folder(tmp_path / "a"))) == 0
    assert read_refs(layout, "mini").stable is not None


def test_the_history_over_there_names_the_author_here(
    server: SshServer, ssh: str, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    there = ["--to", f"{server.host}:{layout.root}", "--ssh", ssh]
    for seed in (1, 2):
        assert main(publish(server, ssh, layout, make_folder(tmp_path / str(seed), seed), "-m", f"run {seed}")) == 0
    assert main(["rollback", "mini", "-m", "two is worse", *there]) == 0
    capfd.readouterr()
    assert main(["history", "mini", "--json", *there]) == 0
    entries = json.loads(capfd.readouterr().out)["history"]
    assert [entry["message"] for entry in entries] == ["run 1", "run 2", "two is worse"]
    assert {entry["who"] for entry in entries} == {this_author()}
    assert entries[0]["from"] == str(tmp_path / "1")


def test_an_atomic_publish_goes_back_over_there_too(
    server: SshServer, ssh: str, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = make_folder(tmp_path / "bad", 2)
    instance = Instance(layout, "i-1", refuses={draft(bad, "mini", quiet).manifest.digest})
    with living(instance):
        assert main(publish(server, ssh, layout, make_folder(tmp_path / "good", 1), "--wait")) == 0
        assert read_refs(layout, "mini").last_good is not None
        assert main(publish(server, ssh, layout, bad, "--atomic")) == 4
    assert "version 2 is refused; version 1 is stable again" in capfd.readouterr().out
    stable = read_refs(layout, "mini").stable
    assert stable is not None
    assert stable.version == "1"


def test_a_taken_version_is_refused_over_there_too(
    server: SshServer, ssh: str, layout: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    published(layout, make_folder(tmp_path / "1", 1))
    assert main(publish(server, ssh, layout, make_folder(tmp_path / "2", 2), "--version", "1")) == 3
    assert "never overwritten" in capfd.readouterr().err


def throttled(ssh: str, tmp_path: Path) -> str:
    """An ssh command that is slow enough to be interrupted on purpose: 64 kB at a time, with pauses."""
    slow = tmp_path / "slow-ssh"
    slow.write_text(
        f"#!{sys.executable}\n"
        "import subprocess, sys, time\n"
        f"far = subprocess.Popen([{ssh!r}, *sys.argv[1:]], stdin=subprocess.PIPE)\n"
        "while block := sys.stdin.buffer.read1(2**16):\n"
        "    far.stdin.write(block)\n"
        "    far.stdin.flush()\n"
        "    time.sleep(0.01)\n"
        "far.stdin.close()\n"
        "sys.exit(far.wait())\n"
    )
    slow.chmod(0o755)
    return str(slow)


def test_a_broken_transfer_resumes_where_it_was(server: SshServer, ssh: str, layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", 1, rows=160_000)  # 20 MB
    published(layout, make_folder(tmp_path / "0", 0))
    slow = throttled(ssh, tmp_path)
    command = [sys.executable, "-m", "model_api", *publish(server, slow, layout, folder, "--no-check")]
    author = subprocess.Popen(command, cwd=ROOT, start_new_session=True)

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
    digest = draft(folder, "mini", quiet).manifest.digest
    upload = layout.incoming("mini") / f"resumable-{digest}"
    upload.mkdir(parents=True)
    shutil.copy(other / "model.safetensors", upload)
    # It has the right size, so the far side says that it has it.
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
