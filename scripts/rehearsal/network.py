"""Network name spaces joined by a bridge: machines with addresses of their own, and nothing beyond them in reach."""

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

SUBNET = "10.66.0"
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """A bridge in a name space of its own, and one name space per machine. Close it to take all of them away."""

    def __init__(self) -> None:
        self.prefix = f"rh{os.getpid()}"
        self.names: list[str] = []
        self.next_host = 10
        self.lock = threading.Lock()
        self.switch = self._add("switch")
        _ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "bridge", "up")

    def _add(self, name: str) -> str:
        name = f"{self.prefix}-{name}"
        _ip("netns", "add", name)
        self.names.append(name)
        _ip("-n", name, "link", "set", "lo", "up")
        return name

    def join(self, machine: str) -> tuple[str, str]:
        """A name space for a machine: its name, and the machine's address."""
        with self.lock:
            address = f"{SUBNET}.{self.next_host}"
            self.next_host += 1
            name = self._add(machine)
            port = f"p{self.next_host}"
            _ip("link", "add", port, "netns", self.switch, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", self.switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
        return name, address

    def close(self) -> None:
        for name in self.names[::-1]:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """The calling thread, and sockets that it makes, are in that name space meanwhile. Other threads aren't."""
    home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    try:
        _enter(Path("/run/netns") / name)
        yield
    finally:
        _set(home)
        os.close(home)


def _enter(path: Path) -> None:
    there = os.open(path, os.O_RDONLY)
    try:
        _set(there)
    finally:
        os.close(there)


def _set(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
