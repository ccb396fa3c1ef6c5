"""Jobs under the real server: killed, cancelled in mid-forward, swapped under."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_api.publishing.changes import init
from model_api.publishing.draft import draft, publish
from model_api.repository.layout import Layout
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server
from tests.rigs.small_models import save_small_t5
from tests.rigs.small_tokenizers import save_small_tokenizer

pytestmark = pytest.mark.integration


def finished(api: Server, job_id: str, within_s: float = 60.0) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = api.get(f"/jobs/{job_id}?wait=5").json()
        return found if found["status"] not in ("queued", "running") else None

    found = wait_until(look, within_s=within_s, every_s=0.05, what="the end of a job")
    assert found is not None
    return found


def test_nothing_is_lost_by_kill_9(tmp_path: Path, tiny_author: Author) -> None:
    api = Server(tmp_path / "api", {"MODEL_API_EFS_ROOT": tmp_path / "efs"})
    try:
        api.start()
        api.wait_until_ready()
        texts = [f"text number {i}" for i in range(60)]
        ids = []
        for text in texts:
            answer = api.post("/jobs", {"kind": "predict", "model": "tiny", "inputs": [text] * 40})
            assert answer.status == 202, answer.body
            ids.append(answer.json()["id"])
        api.kill()
        api.start()
        api.wait_until_ready()
        for job_id, text in zip(ids, texts, strict=True):
            job = finished(api, job_id)
            assert job["status"] == "succeeded", job
            direct = api.post("/predict", {"model": "tiny", "inputs": [text] * 40}).json()
            result = api.get(f"/jobs/{job_id}/result")
            if result.status == 303:
                result = api.get(result.headers["location"])
            assert result.json() == direct
    finally:
        api.close()


def test_a_job_of_a_version_that_is_gone_is_done_by_its_successor(tmp_path: Path, tiny_author: Author) -> None:
    settings = {"MODEL_API_EFS_ROOT": tmp_path / "efs"}
    with server(tmp_path / "idle", MODEL_API_JOBS_AT_ONCE=0, MODEL_API_JOBS_DIR=tmp_path / "jobs", **settings) as idle:
        idle.wait_until_ready()
        body = {"kind": "predict", "model": "tiny", "inputs": ["text"]}
        plain = idle.post("/jobs", body).json()
        pinned = idle.post("/jobs", {**body, "model": "tiny@1", "inputs": ["other"]}).json()
        assert plain["version"] == "1"
    tiny_author.publish(tiny_model(tmp_path / "two", seed=2), "tiny", "2")
    working = {"MODEL_API_JOBS_DIR": tmp_path / "jobs", "MODEL_API_JOB_ATTEMPTS": 1, **settings}
    with server(tmp_path / "working", **working) as api:
        api.wait_until_ready()
        job = finished(api, plain["id"])
        assert (job["status"], job["version"]) == ("succeeded", "2")
        assert job["digest"] == job["result"]["digest"] != plain["digest"]
        assert job["result"] == api.post("/predict", {"model": "tiny", "inputs": ["text"]}).json()
        assert finished(api, pinned["id"])["error"]["type"] == "/problems/version-not-loaded"


@pytest.fixture
def summarizer(tmp_path: Path) -> Iterator[Server]:
    init(tmp_path / "efs")
    save_small_t5(tmp_path / "t5", d_model=256, d_ff=1024, num_layers=6)
    save_small_tokenizer(tmp_path / "t5", max_tokens=512, ends="t5")
    made = draft(tmp_path / "t5", "summary", lambda done, total: None, "summarization")
    publish(Layout(tmp_path / "efs"), made, lambda done, total: None)
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=tmp_path / "efs") as running:
        running.wait_until_ready()
        yield running


def test_cancel_ends_the_forward_itself(summarizer: Server) -> None:
    api = summarizer
    (lane,) = api.pids_by_role()["lane"]
    long = {"min_new_tokens": 512, "max_new_tokens": 512, "num_beams": 8}
    body = {"kind": "summarization", "model": "summary", "inputs": ["the train was late"] * 9, "parameters": long}
    job = api.post("/jobs", body).json()
    wait_until(
        lambda: api.get(f"/jobs/{job['id']}").json()["status"] == "running", within_s=20, what="the job is running"
    )
    client = api.client()
    assert client.ask("DELETE", f"/jobs/{job['id']}").json()["status"] == "cancelled"
    client.close()
    short = {"model": "summary", "inputs": "the train was late", "parameters": {"max_new_tokens": 8}}
    after = api.post("/predict", short)
    assert after.status == 200, api.log_tail()
    assert lane not in api.pids_by_role()["lane"]
    assert api.get(f"/jobs/{job['id']}").json()["status"] == "cancelled"
