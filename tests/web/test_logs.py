"""One JSON object per line, one line per request, and never a body, a query or a header in it."""

import errno
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_api.web.logs import JsonFormatter, StdoutHandler, TextFormatter, wants_text
from tests.rigs.stand_in_service import StandInService, stand_in_app


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


Pair = tuple[StandInService, FlaskClient]
Read = Callable[[], list[dict[str, Any]]]


def start_logging(capsys: pytest.CaptureFixture[str]) -> Read:
    """Log as in production; gives a function that returns the lines logged since, parsed.

    Not by dictConfig: that closes every handler of the process, and a library's may hold the test runner's own stream.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel("INFO")
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def service_and_client() -> Pair:
    app, service = stand_in_app()
    return service, app.test_client()


def test_a_line_per_answer_of_a_model(capsys: pytest.CaptureFixture[str], service_and_client: Pair) -> None:
    read = start_logging(capsys)
    _, client = service_and_client
    response = client.post(
        "/sim?token=hush", json={"target": "private words", "texts": ["secret"]}, headers={"X-Canary-Key": "hidden"}
    )
    (line,) = read()
    assert line.pop("time").endswith("Z")
    assert line.pop("duration_ms") >= 0
    assert line == {
        "level": "INFO",
        "logger": "model_api.requests",
        "message": "request",
        "id": response.headers["X-Request-Id"],
        "method": "POST",
        "path": "/sim",
        "status": 200,
        "bytes": len(response.data),
        "model": "minilm",
        "version": "1",
        "batch_size": 1,
        "queue_ms": 0.25,
        "forward_ms": 1.5,
    }


def test_a_line_per_error(capsys: pytest.CaptureFixture[str], service_and_client: Pair) -> None:
    read = start_logging(capsys)
    service, client = service_and_client
    client.get("/no%0Away")
    service.fail_with = RuntimeError("broke")
    client.post("/sim", json={"target": "a", "texts": []})
    missing, cause, failed = read()
    assert (missing["status"], missing["path"]) == (404, "/no\nway")
    assert "RuntimeError: broke" in cause["exception"]
    assert (failed["status"], failed["level"]) == (500, "WARNING")
    assert cause["id"] == failed["id"]


@pytest.mark.parametrize("message", ["a\nb", "\ud800", '"', "\x00"])
def test_any_record_is_one_line_of_json(message: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, message, None, None)
    record.fields = {"odd": {1: object()}, "big": 2**80}
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["logger"]


def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    read = start_logging(capsys)
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("gunicorn.error").exception("it %s", "broke")
    (line,) = read()
    assert (line["level"], line["message"]) == ("ERROR", "it broke")
    assert line["exception"].startswith("Traceback")


def test_a_persons_line(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("model_api.x", logging.WARNING, "", 0, "version refused", (), None)
    record.fields = {"model": "m", "reason": "no \x1b[31mcolour\nand no second line", "empty": None}
    line = TextFormatter().format(record)
    assert line[8:] == r" WARNING version refused  model=m  reason=no \x1b[31mcolour\nand no second line"


@pytest.mark.parametrize(("asked", "terminal", "text"), [("auto", True, True), ("auto", False, False)])
def test_a_terminal_gets_text(asked: str, terminal: bool, text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert wants_text(asked) is text
    assert wants_text("text")
    assert not wants_text("json")


def test_who_asks_for_health_writes_no_line(capsys: pytest.CaptureFixture[str], service_and_client: Pair) -> None:
    read = start_logging(capsys)
    _, client = service_and_client
    for path in ("/healthz", "/readyz", "/metrics", "/mount_check"):
        client.get(path)
    assert read() == []


def test_a_line_that_can_not_be_written_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StdoutHandler, "lost_lines", 0)

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    handler = StdoutHandler(Full())
    for _ in range(3):
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "a line", (), None))
    assert StdoutHandler.lost_lines == 3
