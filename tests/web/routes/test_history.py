"""The history's routes: what was logged comes back, summed up by anybody's clock, and bad input is told by name."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient

from model_api.history.entries import Entry, Keeping, rows_of
from model_api.history.opening import History
from tests.rigs.stand_in_service import stand_in_app

DAY_MS = 86_400_000
NOW_MS = 1_790_000_000_000  # 2026-09-21


@pytest.fixture
def history_and_client(tmp_path: Path) -> Iterator[tuple[History, FlaskClient]]:
    app, _ = stand_in_app(jobs_dir=tmp_path, max_inputs=20)
    yield app.extensions["model_api_history"], app.test_client()
    app.extensions["model_api_history"].stop()


@pytest.fixture
def client(history_and_client: tuple[History, FlaskClient]) -> FlaskClient:
    return history_and_client[1]


def entry(created_ms: int, **more: Any) -> Entry:
    given: dict[str, Any] = {
        "source": "web",
        "model": "m",
        "predictions": [{"label": "x", "score": 0.5}],
        "inputs": ["in"],
        **more,
    }
    return Entry(created_ms=created_ms, version="1", digest=None, task=None, **given)


def keep(history: History, *entries: Entry) -> list[int]:
    return history.add([row for one in entries for row in rows_of(one, Keeping())])


def told(client: FlaskClient, address: str, **headers: str) -> Any:
    response = client.get(address, headers=headers)
    assert response.status_code == 200, response.text
    return response.json


def refused(response: Any, status: int, pointer: str | None = None) -> str:
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    if pointer is not None:
        assert response.json["errors"][0]["pointer"] == pointer, response.json
    return str(response.json["detail"])


ITEM = {
    "input": "an article",
    "prediction": {"label": "good", "score": 0.75},
    "reference": "good",
    "user": "u1",
    "topic": "weather",
}


def test_what_is_logged_is_found(client: FlaskClient) -> None:
    response = client.post("/log", json={"model": "theirs", "source": "app", "items": [ITEM, {"prediction": "a text"}]})
    assert response.status_code == 201
    assert response.json is not None
    assert response.json["logged"] == 2
    newest, oldest = told(client, "/history")["predictions"]
    assert [oldest["id"], newest["id"]] == response.json["ids"]
    assert {name: oldest[name] for name in ITEM} == ITEM
    assert (oldest["model"], oldest["source"], oldest["label"], oldest["score"]) == ("theirs", "app", "good", 0.75)
    assert oldest["correct"] is True
    assert (newest["prediction"], newest["input"], newest["model"]) == ("a text", None, "theirs")
    assert told(client, f"/history/{oldest['id']}") == oldest


@pytest.mark.parametrize(
    "text", ["a\0b", "</script><script>alert(1)</script>", "'; DROP TABLE predictions;--", "=1+1", "🦜\u202e"]
)
def test_odd_texts_are_kept_as_they_are(client: FlaskClient, text: str) -> None:
    item = {"input": text, "prediction": text, "reference": text}
    assert client.post("/log", json={"items": [item]}).status_code == 201
    (found,) = told(client, "/history")["predictions"]
    assert {name: found[name] for name in item} == item
    assert told(client, "/history?source=log")["predictions"] == [found]
    assert told(client, "/history?source=' OR 1=1 --")["predictions"] == []


def test_the_source_is_the_bodys_or_the_headers(client: FlaskClient) -> None:
    item = {"items": [{"prediction": "a"}]}
    client.post("/log", json=item)
    client.post("/log", json=item, headers={"X-Source": "header"})
    client.post("/log", json={**item, "source": "body"}, headers={"X-Source": "header"})
    assert [row["source"] for row in told(client, "/history")["predictions"]] == ["body", "header", "log"]


def test_pages_go_through_all_once_while_more_come(history_and_client: tuple[History, FlaskClient]) -> None:
    history, client = history_and_client
    ids = keep(history, *(entry(NOW_MS + i * 1000) for i in range(25)))
    seen: list[str] = []
    page = told(client, "/history?limit=10&model=m")
    while True:
        seen += [row["id"] for row in page["predictions"]]
        if page["next"] is None:
            break
        keep(history, entry(NOW_MS + 10**9))
        page = told(client, f"/history?limit=10&model=m&after={page['next']}")
    assert seen == [str(one) for one in reversed(ids)]


def test_a_span_of_time_holds_what_was_within(history_and_client: tuple[History, FlaskClient]) -> None:
    history, client = history_and_client
    keep(history, *(entry(NOW_MS + i * DAY_MS, source=f"day {i}") for i in range(4)))
    since, until = (datetime.fromtimestamp((NOW_MS + i * DAY_MS) / 1000, UTC).isoformat() for i in (1, 3))
    for plus in ("+", "%2B"):
        address = f"/history?since={since.replace('+', plus)}&until={until.replace('+', plus)}"
        assert [row["source"] for row in told(client, address)["predictions"]] == ["day 2", "day 1"]


BAD = [
    ("/history?limit=10000", "/limit"),
    ("/history?limit=0", "/limit"),
    ("/history?limit=x", "/limit"),
    ("/history?surce=web", "/surce"),
    ("/history?after=xyz", "/after"),
    ("/history?after=aCAxIDI=", "/after"),
    ("/history?after=" + "A" * 300, "/after"),
    ("/history?since=yesterday", "/since"),
    ("/history?until=2026-13-01", "/until"),
    ("/history?since=2026-02-02&until=2026-02-01", "/since"),
    ("/history?since=2026-02-02&until=2026-02-02", "/since"),
    ("/history?since=9999-12-31&until=2026-01-01", "/since"),
    ("/history/counts?by=week", "/by"),
    ("/history/counts?zone=Europe/Nowhere", "/zone"),
    ("/history/counts?zone=../../etc/passwd", "/zone"),
    ("/history/counts?by=hour&since=2020-01-01&until=2026-01-01", "/since"),
    ("/history/counts?since=2026-03-02T00:00:00%2B99:00", "/since"),
    ("/history/statistics?measure=height", "/measure"),
    ("/history/samples?n=101", "/n"),
    ("/history/samples?since=2026-01-01", "/since"),
    ("/history/labels?source=web", "/source"),
    ("/history/labels?by=colour", "/by"),
]


@pytest.mark.parametrize(("address", "pointer"), BAD, ids=range(len(BAD)))
def test_bad_questions_are_told_by_place(client: FlaskClient, address: str, pointer: str) -> None:
    refused(client.get(address), 422, pointer)


def test_a_cursor_of_another_list_is_refused(history_and_client: tuple[History, FlaskClient]) -> None:
    history, client = history_and_client
    keep(history, *(entry(NOW_MS + i) for i in range(4)))
    after = told(client, "/history?limit=2&model=m")["next"]
    assert told(client, f"/history?limit=1&model=m&after={after}")["predictions"]
    assert "of this list" in refused(client.get(f"/history?limit=2&model=n&after={after}"), 422, "/after")
    assert "of this list" in refused(client.get(f"/history?limit=2&after={after}"), 422, "/after")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"items": []}, "/items"),
        ({"items": [{"prediction": "a"}] * 21}, "/items"),
        ({"items": [{"input": "a"}]}, "/items/0/prediction"),
        ({"items": [{"prediction": None}]}, "/items/0/prediction"),
        ({"items": [{"prediction": "a"}, {"input": "x" * 2**20, "prediction": "a"}]}, "/items/1/input"),
        ({"items": [{"prediction": "a", "reference": ["x" * 70_000]}]}, "/items/0/reference"),
        ({"items": [{"prediction": "a", "scores": {"bleu": 1.5}}]}, "/items/0/scores/bleu"),
        ({"items": [{"prediction": "a", "scores": {"rogue1": 0.5}}]}, "/items/0/scores/rogue1"),
        ({"items": [{"prediction": "a", "user": "a\0b"}]}, "/items/0/user"),
        ({"items": [{"prediction": "a", "topic": " a"}]}, "/items/0/topic"),
        ({"items": [{"prediction": "a"}], "source": "x" * 65}, "/source"),
        ({"items": [{"prediction": "a"}], "source": "a\n"}, "/source"),
        ({"items": [{"prediction": "a"}], "model": ""}, "/model"),
        ({"itmes": []}, "/items"),
    ],
)
def test_bad_logs_are_told_by_place_and_nothing_is_kept(client: FlaskClient, body: Any, pointer: str) -> None:
    refused(client.post("/log", json=body), 422, pointer)
    assert told(client, "/history")["predictions"] == []


@pytest.mark.parametrize("name", ["0", "-1", "9" * 40, "abc", "१२", str(2**63), "1.5", "%00"])
def test_a_prediction_that_is_none_is_told(client: FlaskClient, name: str) -> None:
    refused(client.get(f"/history/{name}"), 404)
    refused(client.patch(f"/history/{name}", json={"reference": "a"}), 404)


def test_a_reference_comes_later_and_can_be_changed(history_and_client: tuple[History, FlaskClient]) -> None:
    history, client = history_and_client
    (one,) = keep(history, entry(NOW_MS))
    for reference, correct in (("y", False), ("x", True), (None, None)):
        response = client.patch(f"/history/{one}", json={"reference": reference})
        assert response.status_code == 200
        assert response.json is not None
        assert (response.json["reference"], response.json["correct"]) == (reference, correct)
    refused(client.patch(f"/history/{one}", json={}), 422, "/reference")
    refused(client.patch(f"/history/{one}", json={"reference": "a", "more": 1}), 422, "/more")
    refused(client.patch(f"/history/{one}", json={"reference": "a" * 2**17}), 422, "/reference")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
@pytest.mark.parametrize("by", ["hour", "day", "month"])
def test_counts_are_those_of_the_zones_clock(
    history_and_client: tuple[History, FlaskClient], zone: str, by: str
) -> None:
    """Over a change to summer time and back. Compared with each prediction's own local time."""
    history, client = history_and_client
    made, local = random.Random(3), ZoneInfo(zone)
    days = 20 if by == "hour" else 250
    begin_ms = int(datetime(2026, 3, 20, tzinfo=UTC).timestamp() * 1000)
    times = [begin_ms + made.randrange(days * DAY_MS) for _ in range(400)]
    keep(history, *(entry(ms, source=made.choice(["a", "b"])) for ms in times))
    until = datetime.fromtimestamp(begin_ms / 1000 + days * 86400, UTC)
    found = told(
        client, f"/history/counts?by={by}&zone={zone}&since=2026-03-20T00:00:00Z&until={until:%Y-%m-%dT%H:%M:%SZ}"
    )
    wanted: Counter[Any] = Counter()
    for ms in times:
        hour = datetime.fromtimestamp(ms // 3_600_000 * 3600, UTC)  # an hour of UTC counts where it begins
        wanted[
            hour if by == "hour" else hour.astimezone(local).date().replace(**({"day": 1} if by == "month" else {}))
        ] += 1
    starts = [datetime.fromisoformat(one["start"]) for one in found["counts"]]
    assert all(a < b for a, b in itertools.pairwise(starts))
    if by != "hour":
        assert all((start.hour, start.minute) == (0, 0) for start in starts)
    got = {
        (start.astimezone(UTC) if by == "hour" else start.date()): one["n"]
        for start, one in zip(starts, found["counts"], strict=True)
    }
    assert {key: n for key, n in got.items() if n} == dict(wanted)
    assert sum(one["sources"].get("a", 0) + one["sources"].get("b", 0) for one in found["counts"]) == 400
    whole = zone not in ("Asia/Kolkata", "Australia/Lord_Howe")
    assert found["exact"] is (whole or by == "hour")


def test_statistics_are_those_of_the_values(history_and_client: tuple[History, FlaskClient]) -> None:
    history, client = history_and_client
    made = random.Random(9)
    scores = [made.random() for _ in range(300)]
    keep(
        history,
        *(
            entry(NOW_MS + i * 3_600_000, predictions=[{"label": made.choice("ab"), "score": score}])
            for i, score in enumerate(scores)
        ),
        entry(NOW_MS, model="other", predictions=[{"label": "c", "score": 9.0}]),
    )
    begin, end = (datetime.fromtimestamp(NOW_MS / 1000 + i * 3600, UTC) for i in (0, 300))
    span = f"since={begin:%Y-%m-%dT%H:00:00Z}&until={end:%Y-%m-%dT%H:00:00Z}"
    found = told(client, f"/history/statistics?model=m&by=day&{span}")
    score = found["measures"]["score"]
    mean = sum(scores) / 300
    assert (score["n"], score["min"], score["max"]) == (300, min(scores), max(scores))
    assert score["mean"] == pytest.approx(mean)
    assert score["std"] == pytest.approx((sum((one - mean) ** 2 for one in scores) / 300) ** 0.5)
    edges = score["histogram"]["edges"]
    assert score["histogram"]["counts"] == [
        sum(low <= one < high for one in scores) for low, high in itertools.pairwise(edges)
    ]
    assert sum(one["n"] for one in found["labels"]) == 300
    assert sum(one["n"] * one["mean"] for one in found["series"]) == pytest.approx(sum(scores))
    assert found["shift"]["labels"] is None  # there is nothing before


def test_a_shift_is_seen(history_and_client: tuple[History, FlaskClient]) -> None:
    history, client = history_and_client
    for day in range(14):
        label, score = ("a", 0.9) if day % 2 or day < 7 else ("b", 0.2)
        keep(
            history,
            *(entry(NOW_MS + day * DAY_MS + i, predictions=[{"label": label, "score": score}]) for i in range(20)),
        )
    dates = [
        datetime.fromtimestamp(NOW_MS / 1000 + day * 86400, UTC).strftime("%Y-%m-%dT%H:00:00Z") for day in (0, 7, 14)
    ]
    shift = told(client, f"/history/statistics?since={dates[1]}&until={dates[2]}")["shift"]
    assert datetime.fromisoformat(shift["since"]) == datetime.fromisoformat(dates[0])
    assert shift["labels"] > 0.25
    assert shift["scores"] > 0.25
    assert shift["mean_score"] == pytest.approx(0.2 * 3 / 7 + 0.9 * 4 / 7 - 0.9)


def test_labels_of_users_and_topics(history_and_client: tuple[History, FlaskClient]) -> None:
    history, client = history_and_client
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    for user, label, n in (("u1", "good", 3), ("u1", "bad", 1), ("u2", "bad", 2), (None, "bad", 5)):
        keep(
            history,
            *(entry(now_ms, user=user, topic="t", predictions=[{"label": label, "score": 0.5}]) for _ in range(n)),
        )
    users = told(client, "/history/labels")["groups"]
    assert [(one["name"], one["n"]) for one in users] == [("u1", 4), ("u2", 2)]
    assert users[0]["labels"][0] == {"label": "good", "n": 3, "mean_score": 0.5}
    (topic,) = told(client, "/history/labels?by=topic&model=m")["groups"]
    assert {one["label"]: one["n"] for one in topic["labels"]} == {"good": 3, "bad": 8}
    assert told(client, "/history/labels?model=another")["groups"] == []


def test_samples_are_different_ones(history_and_client: tuple[History, FlaskClient]) -> None:
    history, client = history_and_client
    assert told(client, "/history/samples")["predictions"] == []
    keep(history, *(entry(NOW_MS + i * 1000, inputs=[f"in {i}"]) for i in range(30)))
    keep(history, entry(NOW_MS, inputs=[None]))
    found = [one["input"] for one in told(client, "/history/samples?n=5")["predictions"]]
    assert len(set(found)) == len(found) == 5
    assert None not in found


def test_a_database_that_is_away_is_a_503(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    app, _ = stand_in_app(database_url=f"sqlite:///{tmp_path}/file/x.sqlite")
    client = app.test_client()
    for response in (client.get("/history"), client.post("/log", json={"items": [ITEM]})):
        assert "can't be made" in refused(response, 503)
        assert int(response.headers["Retry-After"]) > 0
    assert client.post("/sim", json={"target": "a", "texts": ["a"]}).status_code == 200


def test_sqlite_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_api.history.opening.file_system_type", lambda folder: "nfs4")
    app, _ = stand_in_app(jobs_dir=tmp_path)
    assert "nfs4" in refused(app.test_client().get("/history"), 503)
    assert not list(tmp_path.iterdir())


def test_hash_keeps_no_text_that_was_logged_either(tmp_path: Path) -> None:
    app, _ = stand_in_app(jobs_dir=tmp_path, log_predictions="hash")
    client = app.test_client()
    assert client.post("/log", json={"items": [ITEM]}).status_code == 201
    (found,) = told(client, "/history")["predictions"]
    assert (found["input"], found["prediction"], found["reference"]) == (None, None, None)
    assert (found["label"], found["correct"]) == ("good", True)
    assert len(found["input_sha256"]) == 64
    app.extensions["model_api_history"].stop()
