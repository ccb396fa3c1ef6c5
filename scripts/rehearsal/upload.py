"""What the service owner does: scripts/create-efs, `eb init`, `eb create`, `eb deploy`, with the real eb command.

It talks to moto on loopback (cloud.py). What comes out is what AWS would have got: bundles and option settings.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.rehearsal.cloud_names import BRANCH

ROOT = Path(__file__).resolve().parents[2]
DEPLOY_BIN = ROOT / ".venvs" / "deploy" / "bin"
APPLICATION = "model-api"
REGION = "us-east-1"


@contextlib.contextmanager
def cloud(journal: Path) -> Iterator[dict[str, str]]:
    """Run moto; yields the environment variables that lead the aws tools to it. Needs scripts/setup-deploy --dev."""
    journal.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(DEPLOY_BIN / "python"), "-m", "scripts.rehearsal.cloud", str(port), str(journal)]
    with (journal / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        _wait_for_port(server, port)
        # Nothing else: a profile, an endpoint or a proxy of whoever rehearses would lead to the real AWS.
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        (journal / "home").mkdir()
        yield {
            **kept,
            "HOME": str(journal / "home"),
            "LANG": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "PATH": f"{DEPLOY_BIN}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "rehearsal",
            "AWS_SECRET_ACCESS_KEY": "rehearsal",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        server.kill()  # it keeps nothing, and on a busy machine its own end may take long
        server.wait()


def _wait_for_port(server: subprocess.Popen[bytes], port: int, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("moto did not start; see server.log in the journal") from None
            time.sleep(0.1)
        else:
            return


class Owner:
    """A service owner's clone of the project (the work tree as it is now) in `folder`, and the commands run there."""

    def __init__(self, folder: Path, environ: dict[str, str], journal: Path) -> None:
        self.folder = folder
        self.environ = environ
        self.journal = journal
        listed = self._git("ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
        for name in listed.split("\0"):
            source = ROOT / name
            if name and source.is_file():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        (folder / ".venvs").symlink_to(ROOT / ".venvs")
        self._git("init", "--quiet")
        self.commit("the work tree")

    def _git(self, *arguments: str, cwd: Path | None = None) -> str:
        # A clone of somebody else's is read, too.
        command = ["git", "-c", "safe.directory=*", *arguments]
        folder = cwd or self.folder
        return subprocess.run(command, cwd=folder, env=self.environ, check=True, capture_output=True, text=True).stdout

    def commit(self, message: str) -> None:
        self._git("add", "--all")
        self._git("-c", "user.name=owner", "-c", "user.email=owner@example.com", "commit", "--quiet", "-m", message)

    def run(self, *command: str, environ: Mapping[str, str] | None = None) -> str:
        """Run a command in the clone, by default with the cloud's environment; what it printed.

        RuntimeError with that if it fails.
        """
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ if environ is None else environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        # eb ends some failures with 0 and an ERROR line.
        if done.returncode != 0 or "ERROR:" in done.stdout:
            raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout}")
        return done.stdout

    def create(self, environment: str, *create_efs: str) -> None:
        """From nothing to an environment, as docs/deploy.md says."""
        self.run("scripts/create-efs", *create_efs)
        self.run("eb", "init", APPLICATION, "--platform", BRANCH, "--region", REGION)
        self.run("eb", "create", environment, "--timeout", "40")

    def deploy(self, label: str) -> Path:
        """`eb deploy`; the bundle that was uploaded."""
        self.run("eb", "deploy", "--label", label, "--timeout", "40")
        return self.bundle(label)

    def bundle(self, label: str) -> Path:
        return self.journal / f"{label}.zip"

    def calls(self, action: str) -> list[dict[str, Any]]:
        """The parameters of every call of one Beanstalk action, oldest first."""
        lines = (self.journal / "calls.jsonl").read_text().splitlines()
        return [call["parameters"] for call in map(json.loads, lines) if call["action"] == action]

    def options(self, environment: str) -> dict[str, dict[str, str]]:
        """The environment's option settings as AWS knows them, .ebextensions not among them: namespace, name, value."""
        return dict(json.loads((self.journal / f"options-{environment}.json").read_text()))
