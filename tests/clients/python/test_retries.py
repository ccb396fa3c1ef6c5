"""When the client asks again, and when it doesn't; what it makes of answers that are none."""

import asyncio
import threading
from typing import Any

import pytest
from model_api_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    ModelApiError,
    ModelNotReady,
    ModelRefused,
    QueueFull,
    TimedOut,
    UnexpectedAnswer,
    Unreachable,
    VideoUnavailable,
)

from tests.rigs.free_port import free_port
from tests.rigs.scripted_server import Scripted, ScriptedServer, scripted_server

ANSWER: dict[str, Any] = {
    "model": "m",
    "version": "1",
    "digest": "d",
    "task": "embedding",
    "predictions": [[1.0]],
    "usage": {"tokens": 3},
}
GOOD = Scripted(200, ANSWER)


def problem(status: int, slug: str, **headers: str) -> Scripted:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Scripted(status, {"type": f"/problems/{slug}", "title": slug, "detail": f"told: {slug}"}, named)


async def predict(server: ScriptedServer, **options: Any) -> Any:
    async with AsyncClient(server.url, **options) as client:
        return (await client.predict("m", "a")).predictions


def by_both(server: ScriptedServer, **options: Any) -> list[Any]:
    """What each kind of client gets: predictions, or its error."""
    found: list[Any] = []
    with Client(server.url, **options) as client:
        try:
            found.append(client.predict("m", "a").predictions)
        except ModelApiError as error:
            found.append(error)
    try:
        found.append(asyncio.run(predict(server, **options)))
    except ModelApiError as error:
        found.append(error)
    return found


def test_a_503_is_asked_again_after_what_it_says() -> None:
    busy = problem(503, "queue-full", Retry_After="1")
    with scripted_server(busy, GOOD, busy, GOOD) as server:
        assert by_both(server) == [[[1.0]], [[1.0]]]
    times = [asked.at_s for asked in server.asked]
    assert len(times) == 4
    assert all(1.0 <= again - before < 10 for before, again in ((times[0], times[1]), (times[2], times[3])))


def test_so_is_a_429() -> None:
    with scripted_server(problem(429, "too-many-requests", Retry_After="0"), GOOD) as server, Client(server.url) as one:
        assert one.predict("m", "a").predictions == [[1.0]]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(404, "model-refused"), ModelRefused),
        (problem(404, "model-refused", Retry_After="0"), ModelRefused),
        (problem(503, "video-unavailable"), VideoUnavailable),
        (problem(504, "deadline-exceeded", Location="/jobs/ab12"), DeadlineExceeded),
        (Scripted(502, b"<html>Bad\nGateway</html>", {"Content-Type": "text/html"}), UnexpectedAnswer),
        (Scripted(200, b"<html>welcome</html>", {"Content-Type": "text/html"}), UnexpectedAnswer),
        (Scripted(200, b"{", {"Content-Type": "application/json"}), UnexpectedAnswer),
        (Scripted(500, b"[]", {"Content-Type": "application/problem+json"}), UnexpectedAnswer),
    ],
)
def test_what_would_be_the_same_again_is_asked_once(answer: Scripted, kind: type[ModelApiError]) -> None:
    with scripted_server(answer) as server:
        found = by_both(server)
    assert [type(error) for error in found] == [kind, kind]
    assert all("\n" not in str(error) for error in found)
    assert len(server.asked) == 2
    if isinstance(found[0], DeadlineExceeded):
        assert found[0].job_id == "ab12"


def test_it_gives_up_after_so_many_times() -> None:
    with scripted_server(problem(503, "queue-full", Retry_After="0")) as server:
        found = by_both(server, retries=2)
    assert [type(error) for error in found] == [QueueFull, QueueFull]
    assert len(server.asked) == 6


def test_it_doesn_t_wait_longer_than_it_may() -> None:
    with scripted_server(problem(503, "model-not-ready", Retry_After="30")) as server:
        found = by_both(server, retry_within_s=1)
    assert [type(error) for error in found] == [ModelNotReady, ModelNotReady]
    assert found[0].retry_after_s == 30
    assert len(server.asked) == 2


def test_a_connection_that_broke_is_made_again() -> None:
    with scripted_server(Scripted(None), GOOD, Scripted(None), GOOD) as server:
        assert by_both(server) == [[[1.0]], [[1.0]]]
    assert len(server.asked) == 4


def test_what_isn_t_repeatable_is_sent_once() -> None:
    with scripted_server(Scripted(None)) as server, Client(server.url) as client:
        with pytest.raises(Unreachable, match="broke"):
            client.jobs.cancel("ab12")
        with pytest.raises(Unreachable, match="broke"):
            client.jobs.retry("ab12")
    assert len(server.asked) == 2


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(Unreachable, match="can't connect"):
        client.models()


def test_a_server_without_an_answer_is_told_in_time() -> None:
    with scripted_server(Scripted(200, {})) as server, Client(server.url, timeout_s=0.2) as client:
        hold = server.next_answer
        entered: list[Any] = []

        def late(asked: Any) -> Scripted:
            entered.append(asked)
            done.wait(30)
            return hold(asked)

        done = threading.Event()
        server.next_answer = late  # type: ignore[method-assign]
        with pytest.raises(TimedOut):
            client.models()
        done.set()
    assert len(entered) == 1


@pytest.mark.parametrize("url", ["", "ftp://host", "host:8000", "http://", "http://[::1"])
def test_what_is_no_url_is_refused_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not url:
        monkeypatch.setenv("MODEL_API_URL", "nowhere")
    with pytest.raises(ValueError, match="no URL"):
        Client(url)


def test_the_key_goes_to_the_server_and_nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("MODEL_API_KEY", "mk_1_secret")
    source = tmp_path / "a.csv"
    source.write_text("text\na\n")
    job: dict[str, Any] = {"id": "ab", "kind": "file", "status": "queued", "attempts": 0, "created": "now"}
    job["progress"] = {"done": 0, "total": 1, "unit": "rows"}
    with scripted_server(Scripted(200, b"")) as bucket:
        address = {
            "id": "ef",
            "method": "PUT",
            "url": f"{bucket.url}/b?sign=1",
            "headers": {"Content-Type": "text/csv"},
        }
        with (
            scripted_server(Scripted(201, address), Scripted(202, job), Scripted(200, job)) as server,
            Client(server.url, headers={"X-Source": "night"}) as client,
        ):
            assert client.jobs.submit_file(source, "m", "text").id == "ab"
    assert [asked.headers.get("authorization") for asked in server.asked] == ["Bearer mk_1_secret"] * 3
    assert {asked.headers["x-source"] for asked in server.asked} == {"night"}
    assert b'"upload":"ef"' in server.asked[1].body
    (put,) = bucket.asked
    assert (put.method, put.path, put.body, put.headers["content-length"]) == ("PUT", "/b?sign=1", b"text\na\n", "7")
    assert "authorization" not in put.headers
    assert "x-source" not in put.headers
