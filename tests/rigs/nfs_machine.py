"""Machines with a real NFS 4.1 client of their own, and their server: user-mode-linux kernels and nfs-ganesha.

    with nfs_site(tmp_path, machines=2) as site:
        site.machines[0].run(["cat", "/mnt/efs/file"])
        site.freeze(); site.thaw(); site.cut_off(site.machines[1]); site.reconnect(site.machines[1])

A machine sees the host's files (and so this project and its virtual environment) under their own paths; what it writes
stays in its memory, but for /mnt/efs. Only correctness can be tested here: system calls are slow in user mode.
Needs root and the Debian packages user-mode-linux nfs-ganesha nfs-ganesha-vfs kmod.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.needs import needs, needs_root
from tests.rigs import guest_agent
from tests.rigs.polling import wait_until
from tests.rigs.private_network import PrivateNetwork, private_network

_MODULES = Path("/usr/lib/uml/modules")
_HERE = Path(__file__).parent
# What amazon-efs-utils mounts with, and the two that bound how long a name or an attribute is believed.
EFS_OPTIONS = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
BOUNDED_OPTIONS = EFS_OPTIONS + ",lookupcache=positive,actimeo=3"

_GANESHA_CONFIGURATION = """
NFS_CORE_PARAM {{
    Protocols = 4; NFS_Port = 2049; MNT_Port = 20491; NLM_Port = 20492; Rquota_Port = 20493;
    Enable_NLM = false; Enable_RQUOTA = false; Bind_addr = {address}; mount_path_pseudo = true;
}}
NFSv4 {{
    Minor_Versions = 1; Graceless = true; RecoveryBackend = fs; RecoveryRoot = {folder}/recovery; Delegations = false;
}}
NFS_KRB5 {{ Active_krb5 = false; }}
EXPORT {{
    Export_Id = 1; Path = {folder}/export; Pseudo = /models; Access_Type = RW; Protocols = 4; Transports = TCP;
    SecType = sys; Squash = No_Root_Squash; FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""


class Running:
    """A command under way in a machine. Close it to kill the command and its children."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self.pid = int(self._message(10)["pid"])

    def wait(self, timeout_s: float) -> "subprocess.CompletedProcess[str]":
        """Raises TimeoutError; the command goes on, and may be waited for again."""
        answer = self._message(timeout_s)
        return subprocess.CompletedProcess([], answer["returncode"], answer["output"])

    def close(self) -> None:
        self._connection.close()

    def _message(self, timeout_s: float) -> dict[str, Any]:
        self._connection.settimeout(timeout_s)
        while b"\n" not in self._received:
            part = self._connection.recv(65536)
            assert part, "the machine's agent closed the connection"
            self._received += part
        line, self._received = self._received.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message


class Machine:
    """One guest, up until its site closes."""

    def __init__(self, network: PrivateNetwork, number: int, console: Path) -> None:
        self.number = number
        self.efs = Path("/mnt/efs")
        self.console = console
        self._network = network

    def start(
        self, command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, folder: Path = Path("/")
    ) -> Running:
        connection = self.dial(guest_agent.PORT)
        request = {"command": [*map(str, command)], "environment": dict(environment or {}), "folder": str(folder)}
        connection.sendall(json.dumps(request).encode() + b"\n")
        return Running(connection)

    def run(
        self, command: Sequence[str | Path], *, timeout_s: float = 30.0, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run to the end; output and errors come together as stdout. Raises TimeoutError, and kills it then."""
        running = self.start(command, environment=environment)
        try:
            return running.wait(timeout_s)
        finally:
            running.close()

    def dial(self, port: int) -> socket.socket:
        """A connection to a server in the machine, over the front network. Raises OSError."""
        return self._network.dial(self._network.address("front", self.number), port)


class NfsSite:
    """The server and its machines."""

    def __init__(self, folder: Path, network: PrivateNetwork) -> None:
        self.machines: list[Machine] = []
        self._folder = folder
        self._network = network
        self._server: subprocess.Popen[bytes] | None = None

    def freeze(self) -> None:
        """The server stops answering; connections stay open."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._server is not None
        self._server.send_signal(signal.SIGCONT)

    def cut_off(self, machine: Machine) -> None:
        """It and the server lose each other's packets; from the front it can still be reached."""
        self._network.switch("storage", machine.number, on=False)

    def reconnect(self, machine: Machine) -> None:
        self._network.switch("storage", machine.number, on=True)

    def serve(self, stack: ExitStack) -> None:
        for name in ("export", "recovery"):
            (self._folder / name).mkdir()
        configuration, log = self._folder / "ganesha.conf", self._folder / "ganesha.log"
        configuration.write_text(
            _GANESHA_CONFIGURATION.format(address=self._network.address("storage"), folder=self._folder)
        )
        arguments: list[str | Path] = ["-F", "-f", configuration, "-L", log, "-p", self._folder / "ganesha.pid"]
        self._server = stack.enter_context(_process(self._network, ["ganesha.nfsd", *arguments], log))
        wait_until(
            lambda: _answers(self._network, self._network.address("storage"), 2049), what=f"NFS server, see {log}"
        )

    def boot(self, stack: ExitStack, options: str, memory_mb: int) -> Machine:
        number = len(self.machines) + 2
        machine = Machine(self._network, number, self._folder / f"console-{number}.log")
        modules = self._folder / "modroot"
        if not modules.exists():
            (modules / "lib").mkdir(parents=True)
            (modules / "lib/modules").symlink_to(_MODULES)
        kernel = f"umid=machine{number} uml_dir={self._folder} mem={memory_mb}M quiet con=null con0=null,fd:1 con1=null"
        root = f"root=/dev/root rootfstype=hostfs rootflags=/ ro init={_HERE / 'guest_init.sh'}"
        ports = [self._network.plug(bridge, number) for bridge in ("storage", "front")]
        wires = [f"vec{i}:transport=tap,ifname={port},depth=128,gro=1" for i, port in enumerate(ports)]
        passed = {
            "guest_storage_address": self._network.address("storage", number),
            "guest_front_address": self._network.address("front", number),
            "guest_server": self._network.address("storage"),
            "guest_modules": modules,
            "guest_options": options,
            "guest_python": sys.executable,
            "guest_agent": guest_agent.__file__,
        }
        variables = [f"{key}={value}" for key, value in passed.items()]
        command = ["linux.uml", *kernel.split(), *root.split(), *wires, *variables]
        stack.enter_context(_process(self._network, command, machine.console))
        self.machines.append(machine)
        return machine


@contextmanager
def _process(network: PrivateNetwork, command: Sequence[str | Path], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run in the network until the end of the block, then kill it and its children."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            network.command(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(network: PrivateNetwork, address: str, port: int) -> bool:
    with suppress(OSError):
        network.dial(address, port, timeout_s=1.0).close()
        return True
    return False


@contextmanager
def nfs_site(
    folder: Path, *, machines: int, options: str = BOUNDED_OPTIONS, memory_mb: int = 1024
) -> Iterator[NfsSite]:
    """A server whose files lie in `folder`/export, and `machines` guests that mount it with `options`."""
    needs_root("network namespaces and NFS")
    for program in ("linux.uml", "ganesha.nfsd", "modprobe", "ip", "nsenter", "setpriv", "/dev/net/tun", str(_MODULES)):
        needs(program)
    with ExitStack() as stack:
        network = stack.enter_context(private_network())
        site = NfsSite(folder.absolute(), network)
        site.serve(stack)
        booting = [site.boot(stack, options, memory_mb) for _ in range(machines)]
        for machine in booting:
            wait_until(
                lambda m=machine: _answers(network, network.address("front", m.number), guest_agent.PORT),  # type: ignore[misc]
                within_s=60,
                every_s=0.1,
                what=f"a booted machine, see {machine.console}",
            )
        yield site
