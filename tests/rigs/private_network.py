"""A network of its own for a test: a bridge that no other process sees, and machines plugged into it. Needs root."""

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.rigs.polling import wait_until

_CLONE_NEWNET = 0x40000000


class PrivateNetwork:
    """10.77.0.1/24 on a bridge in an unnamed network namespace, which is gone when its last process is."""

    host_address = "10.77.0.1"

    def __init__(self, holder: "subprocess.Popen[bytes]") -> None:
        self._namespace = Path(f"/proc/{holder.pid}/ns/net")
        wait_until(self._is_apart, what="a network namespace")
        self._ip("link", "set", "lo", "up")
        self._ip("link", "add", "bridge", "type", "bridge")
        self._ip("address", "add", f"{self.host_address}/24", "dev", "bridge")
        self._ip("link", "set", "bridge", "up")

    def plug(self, port: str) -> None:
        """Make a tap device named `port` on the bridge."""
        self._ip("tuntap", "add", port, "mode", "tap")
        self._ip("link", "set", port, "up")
        self.switch(port, on=True)

    def switch(self, port: str, *, on: bool) -> None:
        """Off, every packet from and to `port` is lost without a word; whoever is plugged in sees a sound wire."""
        self._ip("link", "set", port, *(["master", "bridge"] if on else ["nomaster"]))

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


@contextmanager
def private_network() -> Iterator[PrivateNetwork]:
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]
    with subprocess.Popen(command) as holder:
        try:
            yield PrivateNetwork(holder)
        finally:
            holder.kill()
