"""A generation that nobody waits for doesn't hold up the next caller."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.polling import wait_until
from tests.rigs.server import Server
from tests.rigs.summarizer import LONG, SHORT, processor_ticks, summarizer

pytestmark = pytest.mark.integration


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Server]:
    with summarizer(tmp_path) as running:
        yield running


def begin_and_leave(api: Server, lane: int) -> None:
    """Ask as LONG does, and close the connection once the lane is at work."""
    body = json.dumps(LONG).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    idle = processor_ticks(lane)
    with socket.create_connection(("127.0.0.1", api.port), 5.0) as connection:
        connection.sendall(head.encode() + body)
        wait_until(lambda: processor_ticks(lane) > idle + 5)


def test_the_lane_of_a_caller_that_left_is_replaced(api: Server) -> None:
    before = api.post("/predict", SHORT)
    assert before.status == 200
    (lane,) = api.pids_by_role()["lane"]
    begin_and_leave(api, lane)
    after = api.post("/predict", SHORT)
    assert after.status == 200, api.log_tail()
    assert after.json()["predictions"] == before.json()["predictions"]
    assert lane not in api.pids_by_role()["lane"]
    (told,) = [record for record in api.log_records() if record["message"].startswith("lane killed")]
    assert told["message"] == "lane killed: nobody waits for its answer"
