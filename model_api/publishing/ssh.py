"""`--to`: work on a store that is mounted on another host, over ssh and rsync. Nothing is installed there.

The far side needs Python 3.9 or later and rsync. It is sent the standard-library folders of this package and runs them
from a temporary archive; its standard input and output carry JSON lines. It holds the upload folder's lock while this
connection lives, so a broken transfer can be told from one under way.
Stdlib only, Python 3.9.
"""

from __future__ import annotations

import importlib.resources
import io
import json
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

from model_api.errors import Refused, RepositoryError
from model_api.publishing.changes import Outcome
from model_api.publishing.commands.progress import ProgressLine
from model_api.publishing.draft import Draft
from model_api.repository.refs import Ref
from model_api.repository.statuses import Status

# What travels to the far side: these, whole.
FAR_FOLDERS, FAR_FILES = ("publishing", "repository"), ("__init__.py", "errors.py")
_BOOTSTRAP = """
import sys, tempfile
if sys.version_info < (3, 9):
    sys.exit("python3 on the far side is %d.%d; 3.9 or later is needed" % sys.version_info[:2])
archive = tempfile.NamedTemporaryFile(suffix=".zip")
archive.write(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))
archive.flush()
sys.path.insert(0, archive.name)
from model_api.{module} import main
sys.exit(main(sys.argv[1:]))
"""
_RESUME = "run the command again to resume"
_KEEP_ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
_RSYNC = ("rsync", "--files-from=-", "--from0", "--copy-links", "--times", "--partial", "--inplace", "--timeout=120")


@dataclass(frozen=True)
class Target:
    """Where `--to` points: `ssh` is the command that reaches `host`, `path` the store there."""

    host: str
    path: str
    ssh: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, ssh: str) -> Target:
        """[USER@]HOST:PATH. Raises Refused."""
        host, separator, path = text.partition(":")
        if not separator or not host or host.startswith("-") or not path.startswith("/"):
            raise Refused("", f"--to {text!r}: must be [USER@]HOST:/PATH")
        return cls(host, path.rstrip("/") or "/", (*shlex.split(ssh), *_KEEP_ALIVE))

    def start(self, module: str, arguments: Sequence[str], stdout: int | None) -> subprocess.Popen[bytes]:
        """Start `module` of this package over there; its standard input stays open. Raises OSError."""
        remote_command = shlex.join(["python3", "-c", _BOOTSTRAP.format(module=module), *arguments])
        process = subprocess.Popen([*self.ssh, self.host, remote_command], stdin=subprocess.PIPE, stdout=stdout)
        archive = build_archive()
        assert process.stdin is not None
        try:
            process.stdin.write(b"%d\n" % len(archive) + archive)
            process.stdin.flush()
        except BrokenPipeError:
            raise RepositoryError(f"{self.host}: no connection (ssh exit {process.wait()})") from None
        return process


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
    process = target.start("publishing.commands.main", [*arguments, "--root", target.path], stdout=None)
    assert process.stdin is not None
    process.stdin.close()
    return process.wait()


class FarSide:
    """A publish on another host. A context manager; leaving it ends the far process, and with it its lock."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._process = target.start("publishing.receiver", [target.path], stdout=subprocess.PIPE)

    def __enter__(self) -> FarSide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def publish(self, made: Draft, version: str | None, canary_percent: float | None, init: bool) -> Outcome:
        """Send the draft and put it in place. The same content resumes where an earlier try broke off. Raises Refused,
        RepositoryError, OSError."""
        order = {"manifest": made.manifest.to_json(), "version": version, "canary": canary_percent, "init": init}
        with ProgressLine("comparing") as line:
            begun = self._ask({"do": "begin", **order}, line)
        if "folder" in begun:
            self._send_files(made, str(begun["folder"]), begun["send"])
            with ProgressLine("verifying") as line:
                begun = self._ask({"do": "finish"}, line)
        ref = Ref(begun["version"], begun["digest"])
        return Outcome(ref, bool(begun["changed"]), str(begun["message"]))

    def statuses(self) -> Mapping[str, Status]:
        """What the instances report, read on the far side."""
        answer = self._ask({"do": "statuses"})
        found = [Status(s["instance"], s["heartbeat"], tuple(s["models"])) for s in answer["statuses"]]
        return {status.instance: status for status in found}

    def _ask(self, question: Mapping[str, Any], line: ProgressLine | None = None) -> dict[str, Any]:
        stdin, stdout = self._streams()
        try:
            stdin.write(json.dumps(question).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # its last words are in stdout
        for raw in stdout:
            answer: dict[str, Any] = json.loads(raw)
            if "progress" in answer:
                if line is not None:
                    line.show(*answer["progress"])
            elif "refused" in answer:
                raise Refused(answer["path"], answer["refused"])
            elif "error" in answer:
                raise RepositoryError(f"{self._target.host}: {answer['error']}")
            else:
                return answer
        code = self._process.wait()
        raise RepositoryError(f"{self._target.host}: the connection ended (exit {code}); {_RESUME}")

    def _streams(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def _send_files(self, made: Draft, folder: str, paths: Sequence[str]) -> None:
        """rsync from wherever the bytes are; links of a Hugging Face cache are followed by --copy-links."""
        if not paths:
            return
        progress = ["--info=progress2", "--no-inc-recursive"] if sys.stderr.isatty() else []
        shell = ["-e", shlex.join(self._target.ssh)]
        command = [*_RSYNC, *progress, *shell, f"{made.folder}/", f"{self._target.host}:{folder}/"]
        try:
            done = subprocess.run(command, input="\0".join(paths).encode(), stdout=sys.stderr.fileno(), check=False)
        except FileNotFoundError as error:
            raise RepositoryError("rsync isn't installed here; --to needs it") from error
        if done.returncode:
            raise RepositoryError(f"the transfer broke off (rsync exit {done.returncode}); {_RESUME}")
