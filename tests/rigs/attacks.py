"""What one hostile caller does to a server, each way in a process of its own: a client that shares the measuring
process would be measured too.

    with attack("slow_bodies", port):
        ...

All come from one address of loopback, which is nobody else's.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from tests.rigs.project import ROOT

ADDRESS = "127.0.0.66"
PAUSE_S = 0.05  # between one connection's end and the next
MEGABYTES = 9_900_000  # just below the server's limit for a body

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(port: int) -> Stream:
    sock = socket.socket()
    sock.setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 13
    )  # who doesn't read, doesn't read into the kernel either
    sock.setblocking(False)
    sock.bind((ADDRESS, 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=sock, limit=1 << 12)


def post(path: str, body: bytes, *, announced: int | None = None) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % (len(body) if announced is None else announced) + body


async def dribble(port: int, first: bytes, rest: bytes, every_s: float) -> None:
    """Send `first`, then a byte at a time, for ever, until the server ends it."""
    _, writer = await dial(port)
    try:
        writer.write(first)
        while not writer.is_closing():
            writer.write(rest)
            await writer.drain()
            await asyncio.sleep(every_s)
    finally:
        writer.close()


async def never_read(port: int, request: bytes) -> None:
    _, writer = await dial(port)
    try:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request)
        await writer.drain()
        await asyncio.sleep(3600)
    finally:
        writer.close()


async def ask_and_read(port: int, request: bytes) -> None:
    """Ask over one connection without pause, for as long as the server goes on."""
    reader, writer = await dial(port)
    try:
        while True:
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            left = int(length.split(b":")[1])
            while left:
                left -= len(await reader.read(min(left, 1 << 16)) or (_ for _ in ()).throw(EOFError()))
            if b"connection: close" in head.lower():
                return
    finally:
        writer.close()


def predict(inputs: object, **more: object) -> bytes:
    return post("/predict", json.dumps({"model": "tiny", "inputs": inputs, **more}).encode())


_WORDS = "the model of weights was published once and is rain " * 9
_ARRAYS = post("/predict", b'{"model":"tiny","inputs":[' + b"[]," * (MEGABYTES // 3) + b"[]]}")
_TEXTS = post("/sim", json.dumps({"target": "cat", "texts": ["tea in the rain " * 300] * 1000}).encode())
_PAIR = post("/score", json.dumps({"targets": ["w x " * 995], "predictions": ["x w " * 995]}).encode())

_CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
_TINY_CHUNKS = _CHUNKED + b"1\r\n \r\n" * (MEGABYTES // 6) + b"0\r\n\r\n"
_BLANK = b"GET / HTTP/1.1\r\nHost: x\r\nAccept: a" + b" " * 8000 + b"b\r\n\r\n"
_BLANK_WITH_BODY = post("/predict", b" " * 100_000).replace(b"Host: x", b"Host: x\r\nAccept: a" + b" " * 8000 + b"b")
_EXPECTING = post("/predict", b"", announced=MEGABYTES).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")

# Name -> how many connections at a time, and what each of them does.
ATTACKS: dict[str, tuple[int, Callable[[int], Awaitable[None]]]] = {
    "half_heads": (400, lambda port: dribble(port, b"GET /predict HTTP/1.1\r\nHost: x\r\nX-Long: ", b"a", 1.0)),
    "idle_connections": (1500, lambda port: dribble(port, b"", b"", 3600)),
    "open_http_1_0": (300, lambda port: never_read(port, b"GET /docs HTTP/1.0\r\n\r\n")),
    "slow_bodies": (400, lambda port: dribble(port, post("/predict", b"{", announced=MEGABYTES), b" " * 100, 0.5)),
    "arrays_of_arrays": (60, lambda port: ask_and_read(port, _ARRAYS)),
    "large_texts": (40, lambda port: ask_and_read(port, _TEXTS)),
    "slow_readers": (400, lambda port: never_read(port, _TEXTS)),
    "flood": (300, lambda port: ask_and_read(port, predict(_WORDS))),
    "joiners": (400, lambda port: ask_and_read(port, predict([_WORDS + str(n) for n in range(40)]))),
    "scores": (240, lambda port: ask_and_read(port, _PAIR)),
    "health_flood": (300, lambda port: ask_and_read(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")),
    "pipelining": (100, lambda port: never_read(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 30)),
    "tiny_chunks": (100, lambda port: ask_and_read(port, _TINY_CHUNKS)),
    "endless_trailers": (60, lambda port: dribble(port, _CHUNKED + b"0\r\nX-Trailer: ", b"a" * (1 << 18), 0.0)),
    "endless_extensions": (60, lambda port: dribble(port, _CHUNKED + b"1;", b"e" * (1 << 18), 0.0)),
    "blank_headers": (60, lambda port: ask_and_read(port, _BLANK)),
    "refused_bodies": (60, lambda port: ask_and_read(port, _BLANK_WITH_BODY)),
    "expectations": (300, lambda port: dribble(port, _EXPECTING, b"", 0.2)),
    "garbage": (200, lambda port: ask_and_read(port, b"\x16\x03\x01 what is this\r\n\r\n" + b"x" * 100_000)),
}


@contextmanager
def attack(name: str, port: int) -> Iterator[None]:
    """`name` goes on inside the block."""
    command = [sys.executable, "-m", "tests.rigs.attacks", name, str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as attacker:
        try:
            assert attacker.stdout is not None
            assert attacker.stdout.readline() == b"attacking\n"
            yield
            assert attacker.poll() is None, "the attack ended early"
        finally:
            attacker.kill()


async def _go_on(name: str, port: int) -> None:
    connections, act = ATTACKS[name]

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await act(port)
            await asyncio.sleep(PAUSE_S)

    tasks = [asyncio.create_task(one()) for _ in range(connections)]
    await asyncio.sleep(0)
    print("attacking", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(_go_on(sys.argv[1], int(sys.argv[2])))
