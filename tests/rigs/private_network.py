"""Networks of a test's own: bridges that no other process sees, and machines plugged into them. Needs root."""

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.rigs.polling import wait_until

_CLONE_NEWNET = 0x40000000


class PrivateNetwork:
    """Two bridges in an unnamed network namespace, which is gone when its last process is: machine n has the address
    10.77.0.n on `storage`, and 10.78.0.n on `front`; 10.77.0.1 and 10.78.0.1 are the host's."""

    bridges: Mapping[str, str] = {"storage": "10.77.0", "front": "10.78.0"}

    def __init__(self, holder: "subprocess.Popen[bytes]") -> None:
        self._namespace = Path(f"/proc/{holder.pid}/ns/net")
        wait_until(self._is_apart, what="a network namespace")
        self._ip("link", "set", "lo", "up")
        for bridge, net in self.bridges.items():
            self._ip("link", "add", bridge, "type", "bridge")
            self._ip("address", "add", f"{net}.1/24", "dev", bridge)
            self._ip("link", "set", bridge, "up")

    def address(self, bridge: str, number: int = 1) -> str:
        """Machine `number`'s address on `bridge`; 1 is the host."""
        return f"{self.bridges[bridge]}.{number}"

    def plug(self, bridge: str, number: int) -> str:
        """Make a tap device for machine `number` on `bridge`; its name."""
        port = _port(bridge, number)
        self._ip("tuntap", "add", port, "mode", "tap")
        self._ip("link", "set", port, "up")
        self.switch(bridge, number, on=True)
        return port

    def switch(self, bridge: str, number: int, *, on: bool) -> None:
        """Off, every packet from and to that machine is lost on this bridge, and nobody is told."""
        self._ip("link", "set", _port(bridge, number), *(["master", bridge] if on else ["nomaster"]))

    def command(self, program: Sequence[str | Path]) -> list[str]:
        """The command line that runs `program` in this network, and ends it when this process dies, however."""
        inside = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self._namespace}"]
        return [*inside, *map(str, program)]

    def dial(self, address: str, port: int, timeout_s: float = 5.0) -> socket.socket:
        """A TCP connection from inside. Raises OSError."""
        result: list[socket.socket | OSError] = []

        def enter_and_dial() -> None:  # a thread of its own: only the thread changes its namespace, and it ends here
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                with self._namespace.open() as namespace:
                    if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                result.append(socket.create_connection((address, port), timeout_s))
            except OSError as error:
                result.append(error)

        thread = threading.Thread(target=enter_and_dial)
        thread.start()
        thread.join()
        if isinstance(result[0], OSError):
            raise result[0]
        return result[0]

    def _ip(self, *arguments: str) -> None:
        done = subprocess.run(self.command(["ip", *arguments]), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"

    def _is_apart(self) -> bool:
        with suppress(OSError):
            return os.readlink(self._namespace) != os.readlink("/proc/self/ns/net")  # noqa: PTH115 - not a real path
        return False


def _port(bridge: str, number: int) -> str:
    return f"{bridge}-{number}"


@contextmanager
def private_network() -> Iterator[PrivateNetwork]:
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]
    with subprocess.Popen(command) as holder:
        try:
            yield PrivateNetwork(holder)
        finally:
            holder.kill()
