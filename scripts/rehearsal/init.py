"""Process 1 of a rehearsed machine, and its systemctl: the little of systemd that a Beanstalk instance leans on.

usage (inside the machine):  init.py boot        runs for as long as the machine does
                             init.py VERB UNIT   start, stop, restart, reload, enable, is-active, daemon-reload

Units are read from /etc/systemd/system/NAME.service: ExecStart, ExecReload, User, WorkingDirectory, EnvironmentFile,
Restart (always or on-failure), RestartSec, StandardOutput=append:FILE. Booting mounts what fstab names and starts what
is enabled, side by side, as systemd does with nofail mounts.
"""

import configparser
import contextlib
import os
import pwd
import shlex
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

UNITS = Path("/etc/systemd/system")
WANTED = UNITS / "multi-user.target.wants"
SOCKET = "/run/init.sock"
STOP_TIMEOUT_S = 90  # systemd's default


class Unit:
    """One service. Its thread starts it, waits, and starts it again as Restart says; `stop` ends that."""

    def __init__(self, name: str) -> None:
        self.name = name
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(UNITS / f"{name}.service")
        self.section = parser["Service"]
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = threading.Event()
        self.started = threading.Event()
        self.thread = threading.Thread(target=self._keep_running, daemon=True)

    def start(self) -> None:
        self.thread.start()
        self.started.wait(10)

    def stop(self) -> None:
        self.stopping.set()
        process = self.process
        if process is not None and process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
            # Whatever the service left behind goes with its control group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.thread.join(10)

    def reload(self) -> None:
        subprocess.run(["/bin/sh", "-c", self.section["ExecReload"]], check=True)

    def active(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _keep_running(self) -> None:
        restart = self.section.get("Restart", "no")
        user = self._user()
        while not self.stopping.is_set():
            with self._output() as output:
                self.process = subprocess.Popen(
                    ["/bin/sh", "-c", "exec " + self.section["ExecStart"]]
                    if not self.section["ExecStart"].startswith("/bin/sh")
                    else shlex.split(self.section["ExecStart"]),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    cwd=self.section.get("WorkingDirectory", "/"),
                    env=self._environment(),
                    user=user.pw_uid,
                    group=user.pw_gid,
                    extra_groups=[],
                )
            self.started.set()
            status = self.process.wait()
            if restart == "no" or (restart == "on-failure" and status == 0):
                return
            self.stopping.wait(float(self.section.get("RestartSec", "0.1")))

    def _output(self) -> IO[bytes]:
        target = self.section.get("StandardOutput", f"append:/var/log/{self.name}.log")
        return Path(target.removeprefix("append:")).open("ab")

    def _environment(self) -> dict[str, str]:
        environ = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        lines = []
        if "EnvironmentFile" in self.section:
            lines += Path(self.section["EnvironmentFile"]).read_text().splitlines()
        return {**environ, **dict(line.split("=", 1) for line in lines if "=" in line)}

    def _user(self) -> pwd.struct_passwd:
        return pwd.getpwnam(self.section.get("User", "root"))


class Init:
    """Answers systemctl, one connection at a time for each caller."""

    def __init__(self) -> None:
        self.units: dict[str, Unit] = {}
        self.lock = threading.Lock()

    def command(self, verb: str, name: str) -> str:
        """Carry out one systemctl; "" or what went wrong."""
        with self.lock:
            if verb == "daemon-reload":
                return ""
            if name.endswith(".timer") and (UNITS / name).exists():
                return ""  # none runs here: there is no CloudWatch to tell
            if not (UNITS / f"{name}.service").exists():
                return f"Unit {name}.service not found."
            if verb == "enable":
                WANTED.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    (WANTED / f"{name}.service").symlink_to(UNITS / f"{name}.service")
            elif verb == "is-active":
                return "" if name in self.units and self.units[name].active() else "inactive"
            elif verb == "reload":
                self.units[name].reload()
            elif verb in ("start", "stop", "restart"):
                if verb in ("stop", "restart") and name in self.units:
                    self.units.pop(name).stop()
                if verb in ("start", "restart") and not (name in self.units and self.units[name].active()):
                    self.units[name] = Unit(name)
                    self.units[name].start()
            else:
                return f"Unknown command verb {verb}."
            return ""

    def boot(self) -> None:
        threading.Thread(target=subprocess.run, args=(["mount", "-a", "-t", "efs"],), daemon=True).start()
        for link in sorted(WANTED.glob("*.service")):
            self.command("start", link.stem)

    def serve(self) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(SOCKET)
            listener.listen()
            self.boot()
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            verb, name = connection.recv(4096).decode().split("\0")
            try:
                answer = self.command(verb, name)
            except Exception as error:  # the caller must hear of it, and init must live on
                answer = f"{type(error).__name__}: {error}"
            connection.sendall(answer.encode())


def systemctl(arguments: list[str]) -> int:
    verb, *names = [argument for argument in arguments if not argument.startswith("-")]
    for name in names or [""]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(SOCKET)
            connection.sendall(f"{verb}\0{name.removesuffix('.service')}".encode())
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
        if answer:
            print(answer, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["boot"]:
        Init().serve()
    else:
        sys.exit(systemctl(sys.argv[1:]))
