"""A machine: a root (an overlay over this one's), processes, mounts, host name and network of its own."""

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.rehearsal.network import Network

HERE = Path(__file__).resolve().parent
IMAGE_AT = "/var/app/venv"
BASE_PYTHON = Path(sys.base_prefix) / "bin" / "python3"

_BOOT = """\
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$UPPER,workdir=$WORK" "$ROOT"
if [ -n "$IMAGE" ]; then
  mkdir -p "$ROOT$IMAGE_AT"
  mount -t overlay overlay -o "lowerdir=$IMAGE,upperdir=$UPPER.image,workdir=$WORK.image" "$ROOT$IMAGE_AT"
fi
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/dev/shm"
mount --rbind /sys "$ROOT/sys"
mount -t tmpfs tmpfs "$ROOT/run"
mkdir -p "$ROOT/.efs-backing"
mount --bind "$BACKING" "$ROOT/.efs-backing"
hostname "$NAME"
exec chroot "$ROOT" "$PYTHON" "$INIT" boot
"""


class CommandFailed(Exception):
    """A command inside a machine failed; the text is what it printed."""


class Machine:
    """`files`: folders whose content is copied in before the first boot. `backing`: what its EFS mounts show.

    `image`: a folder to start with at IMAGE_AT; shared, never written to.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        network: Network,
        files: Sequence[Path],
        backing: Path,
        image: Path | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.image = image
        self.backing = backing
        self.namespace, self.address = network.join(name)
        self.upper, self.root = folder / "upper", folder / "root"
        self.scratch = [folder / "work", folder / "work.image"]
        for path in (self.upper, folder / "upper.image", self.root, *self.scratch):
            path.mkdir(parents=True)
        for source in files:
            subprocess.run(["cp", "-a", f"{source}/.", str(self.upper)], check=True)
        self._open_path_to_python()
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def _open_path_to_python(self) -> None:
        """webapp must reach the Python that virtual environments point to, wherever it is (say, in root's home)."""
        real = BASE_PYTHON.resolve()
        for parent in reversed(real.parents):
            mode = parent.stat().st_mode
            if not mode & 0o001:
                copy = self.upper / str(parent).lstrip("/")
                copy.mkdir(parents=True, exist_ok=True)
                copy.chmod((mode & 0o7777) | 0o011)

    def boot(self) -> None:
        """Start process 1 and wait until it answers."""
        environ = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "IMAGE": str(self.image or ""),
            "IMAGE_AT": IMAGE_AT,
            "UPPER": str(self.upper),
            "WORK": str(self.folder / "work"),
            "ROOT": str(self.root),
            "BACKING": str(self.backing),
            "NAME": self.name,
            "PYTHON": str(BASE_PYTHON),
            "INIT": str(HERE / "init.py"),
        }
        unshare = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        command = ["ip", "netns", "exec", self.namespace, *unshare, "sh", "-c", _BOOT]
        with (self.folder / "console.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise CommandFailed(f"{self.name} did not boot: {(self.folder / 'console.log').read_text()[-2000:]}")
            pids = children.read_text().split()
            if pids and Path(f"/proc/{pids[0]}/root/run/init.sock").exists():
                self.pid = int(pids[0])
                return
            time.sleep(0.02)

    def power_off(self) -> None:
        """At once, as when an instance is terminated: nothing inside is asked."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def reboot(self) -> None:
        self.power_off()
        for path in self.scratch:
            shutil.rmtree(path)
            path.mkdir()
        self.boot()

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` inside, as root."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wdns=/"]
        return [*enter, "--", *command]

    def run(self, *command: str, environ: Mapping[str, str] | None = None, timeout_s: float = 120) -> str:
        """Run a command inside; what it printed. CommandFailed with that unless it ended well."""
        done = subprocess.run(
            self.command(*command),
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode != 0:
            raise CommandFailed(
                f"{self.name}: {' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}"
            )
        return done.stdout

    def path(self, inside: str) -> Path:
        """A file inside, as seen from here while the machine runs."""
        return Path(f"/proc/{self.pid}/root{inside}")
