"""A generation that nobody waits for doesn't hold up the next caller."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_api.publishing.changes import init
from model_api.publishing.draft import draft, publish
from model_api.repository.layout import Layout
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server
from tests.rigs.small_models import save_small_t5
from tests.rigs.small_tokenizers import save_small_tokenizer

pytestmark = pytest.mark.integration
SHORT = {"model": "summary", "inputs": "the train was late", "parameters": {"max_new_tokens": 8}}
LONG = {
    "model": "summary",
    "inputs": ["the train was late"] * 9,  # one batch
    "parameters": {"min_new_tokens": 512, "max_new_tokens": 512, "num_beams": 8},
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Server]:
    init(tmp_path / "efs")
    save_small_t5(tmp_path / "t5", d_model=256, d_ff=1024, num_layers=6)
    save_small_tokenizer(tmp_path / "t5", max_tokens=512, ends="t5")
    made = draft(tmp_path / "t5", "summary", lambda done, total: None, "summarization")
    publish(Layout(tmp_path / "efs"), made, lambda done, total: None)
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=tmp_path / "efs") as running:
        running.wait_until_ready()
        yield running


def processor_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


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
