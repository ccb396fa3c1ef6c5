"""A pipeline, once for each date: read, predicted, scored, told of."""

import ast
import csv
import io
import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from model_api.jobs import opening
from tests.jobs.conftest import Rig, open_rig
from tests.jobs.test_feeds import RSS
from tests.jobs.test_notices import LOOPBACK, Receiver, receiver
from tests.jobs.test_sources import Site, site
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT

__all__ = ["receiver", "site"]  # fixtures
TABLE = b"id,text,label\n1,a,even\n2,,odd\n3,ccc,odd\n"


@pytest.fixture
def rig(tmp_path: Path, site: Site, receiver: Receiver) -> Iterator[Rig]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_bytes(TABLE)
    site.pages["/feed.xml"] = (200, {}, RSS.encode())
    (tmp_path / "pipelines.toml").write_text(
        f"""
[rows]
source = "{tmp_path}/data/rows.csv"
form = "csv"
model = "minilm"
notify = "{receiver.url}"

[news]
source = "{site.url}/feed.xml"
form = "feed"
model = "minilm"

[outside]
source = "/etc/passwd"
form = "csv"
model = "minilm"

[nobody]
source = "{tmp_path}/data/rows.csv"
form = "csv"
model = "nobody"

[topic]
source = "{tmp_path}/data/rows.csv"
form = "csv"
model = "minilm"
notify = "arn:aws:sns:eu-central-1:123456789012:daily"
"""
    )
    rig = open_rig(
        tmp_path / "jobs",
        pipelines=tmp_path / "pipelines.toml",
        sources=(str(tmp_path / "data"), site.url),
        notify_networks=LOOPBACK,
        notify_secret="whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cw==",
    )
    yield rig
    rig.service.gate.set()
    rig.jobs.stop()


def ask(rig: Rig, **body: Any) -> Any:
    return rig.client.post("/jobs", json={"kind": "daily", **body})


def test_the_rows_are_predicted_and_the_owner_is_told(rig: Rig, receiver: Receiver) -> None:
    asked = ask(rig, pipeline="rows")
    assert asked.status_code == 202, asked.data
    job = rig.wait(asked.get_json()["id"])
    result = job["result"]
    today = datetime.now(UTC).date().isoformat()
    assert (result["pipeline"], result["date"], result["rows"], result["errors"]) == ("rows", today, 3, 1)
    assert (job["model"], job["version"], job["progress"]["done"]) == ("minilm", "1", 3)
    leads = rig.client.get(result["predictions"])
    with rig.client.get(leads.headers["Location"]) as found:
        rows = list(csv.DictReader(io.StringIO(found.data.decode())))
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    receiver.wait()
    headers, body = receiver.told[0]
    told = Webhook("whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cw==").verify(body, headers)
    assert (told["type"], told["data"]["result"]["rows"]) == ("job.succeeded", 3)


def test_twice_on_one_day_is_once(rig: Rig) -> None:
    first = ask(rig, pipeline="rows")
    rig.wait(first.get_json()["id"])
    again = ask(rig, pipeline="rows", date=datetime.now(UTC).date().isoformat())
    assert (again.status_code, again.get_json()["id"]) == (200, first.get_json()["id"])
    yesterday = (datetime.now(UTC).date() - timedelta(days=1)).isoformat()
    assert ask(rig, pipeline="rows", date=yesterday).get_json()["id"] != first.get_json()["id"]
    assert ask(rig, pipeline="news").get_json()["id"] != first.get_json()["id"]


def test_a_feed_is_rows(rig: Rig) -> None:
    job = rig.wait(ask(rig, pipeline="news").get_json()["id"])
    assert (job["result"]["rows"], job["result"]["errors"]) == (2, 0)
    assert sorted(text for inputs in rig.service.computed for text in inputs) == [
        "First & best\nThe cat sat.",
        "Second\nWhole text",
    ]


def test_references_are_scored(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of labels how many are right; of all texts ROUGE and BLEU, as /score has them."""
    rig.service.predict = lambda model, inputs, parameters, context: _labelled(rig, inputs, context)  # type: ignore[method-assign]
    text = (tmp_path / "pipelines.toml").read_text().replace("[rows]\n", '[rows]\nreference = "label"\n')
    (tmp_path / "pipelines.toml").write_text(text)
    result = rig.wait(ask(rig, pipeline="rows").get_json()["id"])["result"]
    assert result["labels"] == {"odd": 3}
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert (result["scored"], set(result["scores"])) == (3, {"rouge1", "rouge2", "rougeL", "rougeLsum", "bleu"})


def _labelled(rig: Rig, inputs: Any, context: Any) -> Any:
    from dataclasses import replace

    from tests.rigs.stand_in_service import StandInService

    answer = StandInService.predict(rig.service, "minilm", ["x"] * len(inputs), {}, context)
    return replace(answer, predictions=[{"label": "odd", "score": 0.9}] * len(inputs))


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/pipeline"),
        ({"pipeline": "other"}, "/pipeline"),
        ({"pipeline": "rows", "date": "30.11.2026"}, "/date"),
        ({"pipeline": "rows", "date": "2999-01-01"}, "/date"),
        ({"pipeline": "rows", "date": "1999-01-01"}, "/date"),
        ({"pipeline": "rows", "model": "minilm"}, "/model"),
        ({"pipeline": "rows", "notify": "https://example.org"}, "/notify"),
        ({"pipeline": 1}, "/pipeline"),
    ],
)
def test_bad_requests(rig: Rig, body: dict[str, Any], pointer: str) -> None:
    answer = ask(rig, **body)
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, pointer), answer.data


@pytest.mark.parametrize(("name", "why"), [("outside", "MODEL_API_SOURCES"), ("nobody", "nobody")])
def test_what_can_t_be_done_fails_and_says_why(rig: Rig, name: str, why: str) -> None:
    job_id = ask(rig, pipeline=name).get_json()["id"]
    if name == "nobody":  # it may be published yet: it is tried again
        found = wait_until(lambda: rig.client.get(f"/jobs/{job_id}").get_json().get("error"), within_s=20)
    else:
        found = rig.wait(job_id, "failed")["error"]
    assert found is not None
    assert why in found["detail"]


def test_a_topic_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str, Any]] = []
    notifier = rig.jobs.parts.notifier
    assert notifier is not None
    monkeypatch.setattr(notifier, "_publish", lambda arn, subject, body: told.append((arn, subject, json.loads(body))))
    rig.wait(ask(rig, pipeline="topic").get_json()["id"])
    wait_until(lambda: told, within_s=20, what="the topic")
    arn, subject, body = told[0]
    assert (arn[-5:], subject) == ("daily", "Model API: daily has succeeded")
    assert body["data"]["result"]["rows"] == 3


def test_a_caller_may_not_name_a_topic(rig: Rig) -> None:
    body = {"kind": "predict", "model": "minilm", "inputs": ["a"], "notify": "arn:aws:sns:eu-central-1:1:daily"}
    assert rig.client.post("/jobs", json=body).get_json()["errors"][0]["pointer"] == "/notify"


@pytest.mark.parametrize("text", ["[rows]\nsource = 1", "rows", '[rows]\nsource = "/a"\nform = "xls"\nmodel = "m"'])
def test_a_file_of_pipelines_that_is_wrong_is_told(rig: Rig, tmp_path: Path, text: str) -> None:
    (tmp_path / "pipelines.toml").write_text(text)
    answer = ask(rig, pipeline="rows")
    assert (answer.status_code, answer.get_json()["type"]) == (503, "/problems/jobs-down")
    assert "pipelines.toml" in answer.get_json()["detail"]


def test_the_dag_of_the_documentation_asks_what_this_api_answers(rig: Rig) -> None:
    """It is Python, it is short, and what it asks does the job."""
    text = (ROOT / "docs/jobs.md").read_text()
    (dag,) = re.findall(r"```python\n(import requests\nfrom airflow.*?)```", text, re.DOTALL)
    assert len([line for line in dag.splitlines() if line.strip()]) <= 20
    asked: list[dict[str, str]] = []
    for node in ast.walk(ast.parse(dag)):
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            asked.append({ast.literal_eval(key): ast.unparse(value) for key, value in pairs if key is not None})
    (body,) = asked
    assert (set(body), body["date"]) == ({"kind", "pipeline", "date"}, "ds")
    ds = datetime.now(UTC).date().isoformat()
    answer = ask(rig, pipeline=ast.literal_eval(body["pipeline"]), date=ds)
    assert rig.wait(answer.get_json()["id"])["status"] == "succeeded"


def test_the_command_says_what_it_wants() -> None:
    done = subprocess.run([ROOT / "scripts/run-daily", "--help"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "NAME" in done.stdout) == (0, True)
    done = subprocess.run(
        [ROOT / "scripts/run-daily", "news", "--url", "no address"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert opening.DAILY_TTL_S >= 86400
