"""A fork server that takes no orders makes nobody wait, and takes no group along."""

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from model_api.processes.fork_server import ForkServer
from model_api.processes.spec import KEY_BYTES
from tests.rigs.polling import wait_until

pytestmark = pytest.mark.integration
KEY = "00" * KEY_BYTES


@pytest.fixture
def server() -> Iterator[ForkServer]:
    fork_server = ForkServer()
    fork_server.start()
    try:
        yield fork_server
    finally:
        fork_server.stop()


def test_orders_to_a_stopped_one_never_wait(server: ForkServer) -> None:
    first = server.pid()
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    ours: list[socket.socket] = []
    while server.pid() == first:
        ours.append(server.spawn(KEY))
        assert len(ours) < 5000
    assert os.kill(first, 0) is None  # type: ignore[func-returns-value]  # it stays: groups of its own would die with it
    for connection in ours:
        connection.close()
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_one_that_is_replaced_stays_until_the_end(server: ForkServer) -> None:
    first = server.pid()
    server.replace()
    connection = server.spawn(KEY)
    second = server.pid()
    assert second not in (None, first)
    connection.settimeout(60)
    assert connection.recv(1)  # a leader of the second has started
    connection.close()
    server.stop()
    assert second is not None
    wait_until(lambda: server.pid() is None)
