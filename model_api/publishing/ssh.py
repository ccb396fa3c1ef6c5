"""`--to`: work on a store that is mounted on another host, over ssh. Nothing is installed there.

The far side needs Python 3.9 or later and nothing else. It is sent the standard-library folders of this package and
runs them from a temporary archive. What its shell prints before that (a ~/.bashrc that greets) is told and left aside.
Stdlib only, Python 3.9.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import io
import shlex
import subprocess
import sys
import threading
import zipfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from model_api.errors import Refused, RepositoryError

# What travels to the far side: these, whole.
FAR_FOLDERS, FAR_FILES = ("publishing", "repository"), ("__init__.py", "errors.py")
_MARK = "model_api-far-side"  # from this line on the far side's output is ours
_BOOTSTRAP = """
import sys, tempfile
sys.stdout.write("{mark} %d %d\\n" % sys.version_info[:2])
sys.stdout.flush()
if sys.version_info < (3, 9):
    sys.exit(1)
archive = tempfile.NamedTemporaryFile(suffix=".zip")
archive.write(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))
archive.flush()
sys.path.insert(0, archive.name)
from model_api.{module} import main
sys.exit(main(sys.argv[1:]))
"""
_OLDEST_PYTHON = (3, 9)
_MAX_NOISE_BYTES = 2**20
_KEEP_ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
_SSH_FAILED, _NO_SUCH_COMMAND, _NOT_RUNNABLE = 255, 127, 126
# What ssh says, and what to do about it.
_CURES = (
    ("could not resolve", "unknown host; check the name after --to, or give it an entry in ~/.ssh/config"),
    ("host key verification", "its host key isn't the one you know; `ssh {host}` once by hand shows it and asks"),
    ("permission denied", "it doesn't let you in; name the user (USER@{host}), or put your key there with ssh-copy-id"),
    ("too many authentication", "it doesn't let you in; name one key in ~/.ssh/config (IdentityFile, IdentitiesOnly)"),
    ("connection refused", "nothing answers on its ssh port; another one is named with --ssh 'ssh -p PORT'"),
    ("timed out", "it doesn't answer; is it up, and may you reach its ssh port from here?"),
    ("no route to host", "it can't be reached from this network"),
)


@dataclass(frozen=True)
class Target:
    """Where `--to` points: `ssh` is the command that reaches `host`, `path` the store there."""

    host: str
    path: str
    ssh: tuple[str, ...]
    python: str = "python3"

    @classmethod
    def parse(cls, text: str, ssh: str, python: str = "python3") -> Target:
        """[USER@]HOST:PATH. Raises Refused."""
        host, separator, path = text.partition(":")
        if not separator or not host or host.startswith("-") or not path.startswith("/"):
            raise Refused("", f"--to {text!r}: must be [USER@]HOST:/PATH")
        return cls(host, path.rstrip("/") or "/", (*shlex.split(ssh), *_KEEP_ALIVE), python)

    def start(self, module: str, arguments: Sequence[str]) -> FarProcess:
        """Start `module` of this package over there. Raises RepositoryError with the cause and what to do."""
        code = _BOOTSTRAP.format(module=module, mark=_MARK)
        command = [*self.ssh, self.host, shlex.join([self.python, "-c", code, *arguments])]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except FileNotFoundError:
            raise RepositoryError(f"{self.ssh[0]} isn't installed here; --to needs it") from None
        far = FarProcess(self, process)
        far.wait_for_mark()
        archive = build_archive()
        try:
            far.stdin.write(b"%d\n" % len(archive) + archive)
            far.stdin.flush()
        except BrokenPipeError:
            raise RepositoryError(far.why_it_ended()) from None
        return far


@dataclass
class FarProcess:
    """A program on the far side. What it writes to standard error appears here."""

    target: Target
    process: subprocess.Popen[bytes]
    _last_words: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    def __post_init__(self) -> None:
        self._relay = threading.Thread(target=self._relay_stderr, name="far stderr", daemon=True)
        self._relay.start()

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def wait_for_mark(self) -> None:
        """Read up to where our own output begins. Raises RepositoryError if it never does."""
        noise: list[str] = []
        n_bytes = 0
        for raw in self.stdout:
            words = raw.decode("utf-8", "replace").split()
            if words[:1] == [_MARK]:
                version = (int(words[1]), int(words[2]))
                break
            noise.append(raw.decode("utf-8", "replace").strip())
            n_bytes += len(raw)
            if n_bytes > _MAX_NOISE_BYTES:
                self.end()
                raise RepositoryError(f"{self.target.host}: its shell prints without end before our program starts")
        else:
            raise RepositoryError(self.why_it_ended())
        if version < _OLDEST_PYTHON:
            self.end()
            found = ".".join(map(str, version))
            raise RepositoryError(
                f"{self.target.host}: {self.target.python} is Python {found} there, 3.9 or later is needed;"
                " --python names another (--python python3.11)"
            )
        if noise:
            first = next((line for line in noise if line), "")
            print(
                f"{self.target.host}: its shell prints {len(noise)} lines at every login ({first[:60]!r}, from"
                " ~/.bashrc?); they are left aside",
                file=sys.stderr,
            )

    def why_it_ended(self) -> str:
        """One line on a far side that ended before it began: the cause and what to do."""
        host, python = self.target.host, self.target.python
        code = self.end()
        said = " ".join(self._last_words).lower()
        if code == _SSH_FAILED:
            cure = next((cure for words, cure in _CURES if words in said), "no connection; ssh says why above")
            return f"{host}: {cure.format(host=host)}"
        if code == _NO_SUCH_COMMAND:
            return f"{host}: there is no {python}; --python names the one to use (3.9 or later)"
        if code == _NOT_RUNNABLE:
            return f"{host}: {python} can't be run there; --python names another"
        return f"{host}: its shell ended (exit {code}) before {python} started; does a ~/.bashrc there exit or exec?"

    def end(self) -> int:
        """Close both ends and wait. Returns the exit code of ssh, which is the far program's."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._relay.join(timeout=2)  # not longer: a connection that ssh shares in the background keeps the stream
        return code

    def _relay_stderr(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for raw in stream:
                line = raw.decode("utf-8", "replace")
                self._last_words.append(line)
                sys.stderr.write(line)
                sys.stderr.flush()


def build_archive() -> bytes:
    """What the far side runs, as a zip archive; also where this package itself runs from one."""
    buffer = io.BytesIO()
    package: Any = importlib.resources.files("model_api")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(item: Any, path: str) -> None:
            if item.is_dir():
                for child in item.iterdir():
                    add(child, f"{path}/{child.name}")
            elif path.endswith(".py"):
                archive.writestr(path, item.read_bytes())

        for name in (*FAR_FILES, *FAR_FOLDERS):
            add(package / name, f"model_api/{name}")
    return buffer.getvalue()


def run_there(target: Target, arguments: Sequence[str]) -> int:
    """Run a command on the far side, with its output here. Returns its exit code; raises RepositoryError, OSError."""
    far = target.start("publishing.commands.main", [*arguments, "--root", target.path])
    far.stdin.close()
    sys.stdout.flush()
    for line in far.stdout:
        sys.stdout.write(line.decode("utf-8", "replace"))
        sys.stdout.flush()
    return far.end()
