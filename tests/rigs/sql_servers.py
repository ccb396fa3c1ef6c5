"""Real PostgreSQL and MariaDB of a test's own: on loopback, on a free port, as a user without rights."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text

from tests.needs import missing
from tests.rigs.free_port import free_port
from tests.rigs.polling import wait_until

START_TIMEOUT_S = 60.0
_USER = "nobody"  # whom root starts them as: they refuse to run as root


@dataclass(frozen=True)
class SqlServer:
    """`url` is of a database, as MODEL_API_DATABASE_URL takes it; `admin_url` of one who may do everything."""

    url: str
    admin_url: str
    process: subprocess.Popen[bytes]

    def _signal(self, number: int) -> None:
        """To the server and its children, which are sessions of their own."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if self.process.pid in (int(stat.parent.name), int(fields[1])):
                    os.kill(int(stat.parent.name), number)

    def new_database(self) -> str:
        """The URL of another, empty one."""
        name = f"h_{uuid.uuid4().hex[:12]}"
        self.administer(f"CREATE DATABASE {name}")
        return f"{self.url.rpartition('/')[0]}/{name}"

    def administer(self, statement: str) -> None:
        engine = create_engine(self.admin_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def freeze(self) -> None:
        """It accepts connections from now on, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)


@contextlib.contextmanager
def postgresql() -> Iterator[SqlServer]:
    binaries = _binaries("postgres", "initdb", folders=[*Path("/usr/lib/postgresql").glob("*/bin")])
    with _folder() as folder:
        data = folder / "data"
        _run(
            [binaries["initdb"], "--pgdata", str(data), "--username=history", "--auth=trust", "--no-sync", "-E", "UTF8"]
        )
        port = free_port()
        command = [binaries["postgres"], "-D", str(data), "-p", str(port), "-k", str(folder)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=50"]
        with _server(command, folder, port) as process:
            url = f"postgresql://history@127.0.0.1:{port}/postgres"
            yield SqlServer(url, url.replace("postgresql:", "postgresql+psycopg:"), process)


@contextlib.contextmanager
def mariadb() -> Iterator[SqlServer]:
    binaries = _binaries("mariadbd", "mariadb-install-db", folders=[Path("/usr/sbin"), Path("/usr/bin")])
    with _folder() as folder:
        data, port = folder / "data", free_port()
        common = ["--no-defaults", f"--datadir={data}", "--innodb-flush-log-at-trx-commit=0"]
        _run([binaries["mariadb-install-db"], *common, "--auth-root-authentication-method=normal", "--skip-test-db"])
        begin = folder / "begin.sql"
        begin.write_text(
            "CREATE DATABASE h_first;\n"
            "CREATE USER history@'%' IDENTIFIED BY 'a secret/of:ours';\nGRANT ALL ON `h\\_%`.* TO history@'%';\n"
            "CREATE USER admin@'%' IDENTIFIED BY 'admin';\nGRANT ALL ON *.* TO admin@'%';\n"
        )
        begin.chmod(0o644)
        command = [
            binaries["mariadbd"],
            *common,
            "--character-set-server=latin1",
            f"--port={port}",
            f"--socket={folder}/socket",
            f"--init-file={begin}",
        ]
        command += ["--bind-address=127.0.0.1", f"--pid-file={folder}/pid", "--skip-name-resolve"]
        with _server(command, folder, port) as process:
            where = f"127.0.0.1:{port}/h_first"
            url = f"mysql://history:a%20secret%2Fof%3Aours@{where}"
            yield SqlServer(url, f"mysql+pymysql://admin:admin@{where}", process)


def _binaries(*names: str, folders: list[Path]) -> dict[str, str]:
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])
    found = {name: shutil.which(name, path=path) for name in names}
    for name, place in found.items():
        if place is None:
            missing(f"{name} is not on this machine")
    return {name: str(place) for name, place in found.items()}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Which the other user can get at; a test's own folder is root's alone. A short path, for the sockets."""
    folder = Path(tempfile.mkdtemp(prefix="sql-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_whom() -> dict[str, object]:
    return {"user": _USER, "group": pwd.getpwnam(_USER).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/", **_as_whom())  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def _server(command: list[str], folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            **_as_whom(),  # type: ignore[call-overload]
        )
    try:

        def accepts() -> bool:
            assert process.poll() is None, (folder / "log").read_text(errors="replace")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        wait_until(accepts, within_s=START_TIMEOUT_S, every_s=0.05, what=f"{command[0]} accepts connections")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGTERM if "mariadbd" in command[0] else signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
