"""Jobs under the real server: killed, cancelled in mid-forward, swapped under."""

import csv
import io
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.server import Server, server
from tests.rigs.summarizer import LONG, SHORT, processor_ticks, summarizer

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
        assert (job["status"], job["version"]) == ("succeeded", "2"), job.get("error")
        assert job["digest"] == job["result"]["digest"] != plain["digest"]
        assert job["result"] == api.post("/predict", {"model": "tiny", "inputs": ["text"]}).json()
        assert finished(api, pinned["id"])["error"]["type"] == "/problems/version-not-loaded"


@pytest.fixture
def summary_api(tmp_path: Path) -> Iterator[Server]:
    with summarizer(tmp_path) as api:
        yield api


def test_cancel_ends_the_forward_itself(summary_api: Server) -> None:
    api = summary_api
    (lane,) = api.pids_by_role()["lane"]
    job = api.post("/jobs", {"kind": "summarization", **LONG}).json()
    wait_until(
        lambda: api.get(f"/jobs/{job['id']}").json()["status"] == "running", within_s=20, what="the job is running"
    )
    began = processor_ticks(lane)
    wait_until(lambda: processor_ticks(lane) > began + 20, within_s=30, what="the lane is at it")
    client = api.client()
    assert client.ask("DELETE", f"/jobs/{job['id']}").json()["status"] == "cancelled"
    client.close()
    after = api.post("/predict", SHORT)
    assert after.status == 200, api.log_tail()
    assert lane not in api.pids_by_role()["lane"]
    assert api.get(f"/jobs/{job['id']}").json()["status"] == "cancelled"


def wait_for_progress(api: Server, job_id: str) -> None:
    """More rows than now. A job that is over makes none: its file was too short for this machine, or it failed."""

    def done() -> int:
        job = api.get(f"/jobs/{job_id}").json()
        assert job["status"] in ("queued", "running"), job
        return int(job["progress"]["done"])

    before = done()
    wait_until(lambda: done() > before, within_s=60, what=f"more than {before} rows")


def test_no_row_is_lost_or_twice_when_a_file_job_is_killed(tmp_path: Path, tiny_author: Author) -> None:
    api = Server(tmp_path / "api", {"MODEL_API_EFS_ROOT": tmp_path / "efs"})
    rows = 30_000  # done in so many seconds that a slow start of a server isn't longer
    content = b"id,text\n" + b"".join(b"%d,row number %d\n" % (i, i) for i in range(rows))
    try:
        api.start()
        api.wait_until_ready()
        job = {"kind": "file", "model": "tiny"}
        asked = api.post("/uploads", {"content_type": "text/csv", "size": len(content), "job": job}).json()
        sent = requests.put(address(api, asked), data=content, headers=asked["headers"], timeout=30)
        job_id = sent.json()["job"]
        for _ in range(2):
            wait_for_progress(api, job_id)
            api.kill()
            api.start()
            api.wait_until_ready()
        found = finished(api, job_id, within_s=240)
        assert found["status"] == "succeeded", found
        assert found["progress"] == {"done": rows, "total": rows, "unit": "rows"}
        download = requests.get(f"{api.url}/jobs/{job_id}/result", timeout=30)
        assert "attachment" in download.headers["Content-Disposition"]
        table = list(csv.DictReader(io.StringIO(download.text)))
        assert [row["id"] for row in table] == [str(i) for i in range(rows)]
        assert not any(row["error"] for row in table)
        direct = api.post("/predict", {"model": "tiny", "inputs": table[17]["text"]}).json()
        assert json.loads(table[17]["prediction"]) == direct["predictions"][0]
    finally:
        api.close()


def test_a_large_upload_takes_no_memory(tmp_path: Path, tiny_author: Author) -> None:
    size = 100 * 2**20
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=tmp_path / "efs") as api:
        api.wait_until_ready()
        asked = api.post("/uploads", {"content_type": "text/csv", "size": size}).json()
        (web,) = api.pids_by_role()["web"]
        before = peak_memory_bytes(web)
        line = b"a line of a hundred bytes,".ljust(99, b".") + b"\n"
        parts = (line * 10_000 for _ in range(size // 1_000_000))
        rest = size - size // 1_000_000 * 1_000_000
        sent = requests.put(address(api, asked), data=itertools.chain(parts, [(line * 10_000)[:rest]]), timeout=120)
        assert sent.status_code == 200, sent.text
        assert sent.json()["size"] == size
        assert peak_memory_bytes(web) - before < 30 * 2**20


def address(api: Server, asked: dict[str, Any]) -> str:
    """The rig calls every server `server`."""
    parts = urlsplit(asked["url"])
    return f"{api.url}{parts.path}?{parts.query}"


def peak_memory_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_predict_sends_a_file_as_a_job(tmp_path: Path, tiny_author: Author) -> None:
    source = tmp_path / "reviews.csv"
    source.write_text("id,text\n1,first\n2,\n3,third\n")
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=tmp_path / "efs") as api:
        api.wait_until_ready()
        arguments = ["--model", "tiny", "--column", "text", "--url", api.url, "--job"]
        for _ in range(2):
            done = subprocess.run([ROOT / "scripts" / "predict", source, *arguments], capture_output=True, text=True)
            assert done.returncode == 1, done.stderr
            assert "3 rows, 1 with an error" in done.stderr
        rows = list(csv.DictReader(io.StringIO((tmp_path / "reviews.predictions.csv").read_text())))
        assert [(row["id"], bool(row["prediction"]), bool(row["error"])) for row in rows] == [
            ("1", True, False),
            ("2", False, True),
            ("3", True, False),
        ]
        assert len(api.get("/jobs").json()["jobs"]) == 1
        arguments[3] = "nothing"
        wrong = subprocess.run([ROOT / "scripts" / "predict", source, *arguments], capture_output=True, text=True)
        assert (wrong.returncode, "no column" in wrong.stderr) == (2, True)
        unknown = ["--model", "nobody", "--column", "text", "--url", api.url, "--job"]
        refused = subprocess.run([ROOT / "scripts" / "predict", source, *unknown], capture_output=True, text=True)
        assert (refused.returncode, "nobody" in refused.stderr) == (3, True)
