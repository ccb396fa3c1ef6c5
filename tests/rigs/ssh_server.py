"""A real sshd on a loopback port, with keys made for one test: what `--to host:/efs`, scp and rsync talk to.

    with ssh_server(tmp_path) as server:
        subprocess.run(["scp", *server.options, file, f"{server.host}:/folder/"])

Its users are this machine's; it lets in the one who runs the test. Needs Debian's openssh-server and openssh-client.
"""

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.needs import needs
from tests.rigs.free_port import free_port
from tests.rigs.polling import wait_until


@dataclass(frozen=True)
class SshServer:
    """How to reach it: `host` as scp and rsync name it, with the `options` that ssh needs for it."""

    port: int
    configuration: Path  # for ssh -F: then no other option is needed
    log: Path

    @property
    def host(self) -> str:
        return "efs-host"

    @property
    def options(self) -> list[str]:
        """For ssh, scp and sftp."""
        return ["-F", str(self.configuration)]

    @property
    def rsync_shell(self) -> str:
        """For rsync --rsh, or RSYNC_RSH."""
        return f"ssh -F {self.configuration}"


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Serve until the end of the block; keys, configuration and log lie in `folder`/ssh. Open sessions end with it."""
    for program in ("sshd", "ssh", "ssh-keygen"):
        needs(program)
    home = folder.absolute() / "ssh"
    home.mkdir(mode=0o700)
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True)
    shutil.copy(home / "user_key.pub", home / "authorized_keys")
    port = free_port()
    server = SshServer(port, home / "ssh_config", home / "sshd.log")
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host_key\nPidFile {home}/sshd.pid\n"
        f"AuthorizedKeysFile {home}/authorized_keys\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"SetEnv HOME={home}\n"  # the user's own shell has start-up files there, which may print
        "StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nMaxStartups 100\n"
    )
    server.configuration.write_text(
        f"Host {server.host}\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n"
        f" IdentityFile {home}/user_key\n IdentitiesOnly yes\n UserKnownHostsFile {home}/known_hosts\n"
        " StrictHostKeyChecking accept-new\n BatchMode yes\n ConnectTimeout 5\n LogLevel ERROR\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd gives up its rights; a service manager makes it
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
    assert sshd is not None
    command = [sshd, "-D", "-f", str(home / "sshd_config"), "-E", str(server.log)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            wait_until(lambda: _lets_in(server, process), what=f"sshd, see {server.log}")
            yield server
        finally:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for pid in [process.pid, *map(int, children)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, 15)


def _lets_in(server: SshServer, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, f"sshd ended: {server.log.read_text()}"
    return subprocess.run(["ssh", *server.options, server.host, "true"], capture_output=True).returncode == 0
