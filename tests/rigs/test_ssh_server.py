"""The sshd rig: that scp, rsync and ssh reach it without asking anything, and that it leaves nothing behind."""

import subprocess
from pathlib import Path

import pytest

from tests.needs import needs
from tests.rigs.polling import wait_until
from tests.rigs.ssh_server import ssh_server

pytestmark = pytest.mark.integration


def test_scp_and_rsync_copy_and_its_end_ends_their_sessions(tmp_path: Path) -> None:
    needs("scp")
    needs("rsync")
    (tmp_path / "weights").write_bytes(b"w" * 100_000)
    (tmp_path / "there").mkdir()
    with ssh_server(tmp_path) as server:
        subprocess.run(["scp", *server.options, tmp_path / "weights", f"{server.host}:{tmp_path}/there/a"], check=True)
        target = f"{server.host}:{tmp_path}/there/b"
        subprocess.run(["rsync", f"--rsh={server.rsync_shell}", tmp_path / "weights", target], check=True)
        assert (tmp_path / "there/a").read_bytes() == (tmp_path / "there/b").read_bytes() == b"w" * 100_000
        open_session = subprocess.Popen(["ssh", *server.options, server.host, "echo in; cat"], stdin=subprocess.PIPE)
        wait_until(lambda: server.log.read_text().count("Accepted publickey") >= 4)
    assert open_session.wait(10) != 0
    assert open_session.stdin is not None
    open_session.stdin.close()
    assert subprocess.run(["ssh", *server.options, server.host, "true"], capture_output=True).returncode == 255


def test_the_users_own_start_up_files_are_not_read(tmp_path: Path) -> None:
    with ssh_server(tmp_path) as server:
        said = subprocess.run(["ssh", *server.options, server.host, "echo $HOME"], capture_output=True, check=True)
    assert said.stdout.decode() == f"{tmp_path}/ssh\n"
