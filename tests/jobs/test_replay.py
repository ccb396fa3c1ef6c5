"""Logged inputs through a candidate: what is compared, and the command against a real server."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from model_api.jobs.replay_report import Answered, Pair, compared, report, table
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.server import server

GOOD, BAD = {"label": "good", "score": 0.9}, {"label": "bad", "score": 0.6}


@pytest.mark.parametrize(
    ("before", "after", "agree", "moved"),
    [
        (GOOD, {"label": "good", "score": 0.7}, True, -0.2),
        (GOOD, BAD, False, -0.3),
        ([1.0, 0.0], [2.0, 0.0], True, 0.0),
        ([1.0, 0.0], [0.0, 1.0], False, -1.0),
        ([1.0, 0.0], [1.0], False, -1.0),
        ({"sims": [0.1, 0.9]}, {"sims": [0.2, 0.8]}, True, -0.1),
        ({"scores": [0.1, 0.9]}, {"scores": [0.9, 0.1]}, False, 0.0),
        ({"text": "a"}, {"text": "a"}, True, None),
        ({"text": "a"}, {"text": "b"}, False, None),
        ({"score": 10, "prediction": 0.6}, {"score": 10.2, "prediction": 0.6}, True, 0.2),
        ({"score": 10, "prediction": 0.6}, {"score": 12, "prediction": 0.6}, False, 2.0),
    ],
)
def test_predictions_of_each_task_are_compared(before: Any, after: Any, agree: bool, moved: float | None) -> None:
    found = compared(before, after)
    assert found[0] is agree
    assert found[1] == (None if moved is None else pytest.approx(moved))


def test_the_report_sums_up() -> None:
    pairs = [Pair(Answered(GOOD, 10.0 + i), Answered(GOOD, 20.0 + i), "good") for i in range(98)]
    pairs += [
        Pair(Answered(GOOD, 5.0), Answered(BAD, 5.0), "bad"),
        Pair(Answered(GOOD, 1.0), Answered(None, 1.0, "too long")),
    ]
    told = report("m@1", "m@2", pairs)
    assert (told["inputs"], told["agreement"]) == (100, pytest.approx(98 / 99))
    assert told["refused"] == {"before": 0, "after": 1, "why": "too long"}
    assert told["changed_labels"] == [{"from": "good", "to": "bad", "n": 1}]
    assert told["accuracy"] == {"n": 99, "before": pytest.approx(98 / 99), "after": 1.0}
    assert told["score_shift"]["min"] == pytest.approx(-0.3)
    assert told["latency_ms"]["after"] == {"p50": 68.0, "p99": 117.0}
    shown = table(told)
    assert "agreement     99.0%" in shown
    assert "1 x good -> bad" in shown
    assert "too long" in shown


def replay(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "scripts/replay", *arguments], capture_output=True, text=True, timeout=120)


def test_the_command_says_what_it_wants() -> None:
    done = replay("--help")
    assert (done.returncode, "MODEL@CANDIDATE" in done.stdout) == (0, True)
    for arguments, code in ((["m"], 2), (["m@2", "--last", "0"], 2), (["m@2", "--url", "no address"], 3)):
        done = replay(*arguments)
        assert done.returncode == code
        assert "Traceback" not in done.stderr


@pytest.mark.integration
def test_a_candidate_is_judged_by_what_was_asked(tmp_path: Path, tiny_author: Author) -> None:
    settings = {"MODEL_API_EFS_ROOT": tmp_path / "efs", "MODEL_API_LOG_PREDICTIONS": "full"}
    with server(tmp_path / "api", **settings) as api:
        api.wait_for_model("tiny", state="serving")
        done = replay("tiny@canary", "--url", api.url)
        assert (done.returncode, "no canary" in done.stderr) == (3, True)
        tiny_author.publish(tiny_model(tmp_path / "two", seed=2), "tiny", canary_percent=0.01)
        wait_until(lambda: (api.get("/models/tiny").json().get("canary") or {}).get("version") == "2", within_s=30)
        api.wait_for_model("tiny", state="serving")
        wait_until(lambda: api.post("/predict", {"model": "tiny@2", "inputs": ["a"]}).status == 200, within_s=60)
        done = replay("tiny@1", "--url", api.url)
        assert (done.returncode, "nothing to compare" in done.stderr) == (2, True)
        for text in ("one", "another", "a third"):
            assert api.post("/predict", {"model": "tiny", "inputs": [text]}, **{"X-Source": "app"}).status == 200
        assert (
            api.post("/sim", {"model": "tiny", "target": "a", "texts": ["b", "c"]}, **{"X-Source": "app"}).status == 200
        )
        wait_until(lambda: len(api.get("/history?source=app").json()["predictions"]) == 4)
        done = replay("tiny@canary", "--source", "app", "--json", "--url", api.url)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["before"], told["after"], told["inputs"], told["refused"]) == ("tiny@1", "tiny@2", 4, None)
        assert 0 <= told["agreement"] <= 0.25  # other random weights, other vectors
        assert told["latency_ms"]["after"]["p50"] > 0
        digest = api.get("/models/tiny").json()["canary"]["digest"]
        done = replay(f"tiny@{digest[:12]}", "--last", "2", "--min-agreement", "0.9", "--url", api.url)
        assert done.returncode == 1, done.stderr
        assert done.stdout.startswith("2 inputs: tiny@1 beside tiny@2")
