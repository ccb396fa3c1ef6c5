"""A whole file as a job: every row, in order, once, whatever happens on the way."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.conftest import Rig, open_rig
from tests.jobs.test_uploads import ask, send
from tests.rigs.polling import wait_until


def table(rows: int) -> bytes:
    return b"id,text\n" + b"".join(b"%d,text %d\n" % (i, i) for i in range(rows))


def start(rig: Rig, content: bytes, content_type: str = "text/csv", **job: Any) -> str:
    """Send a file with its job; the job's id."""
    asked = ask(rig, content_type=content_type, job={"kind": "file", "model": "minilm", **job})
    sent = send(rig, asked, content).get_json()
    assert "job" in sent, sent
    return str(sent["job"])


def download(rig: Rig, job_id: str) -> bytes:
    leads = rig.client.get(f"/jobs/{job_id}/result")
    assert leads.status_code == 303, leads.data
    with rig.client.get(leads.headers["Location"]) as found:
        assert found.status_code == 200
        return bytes(found.data)


def test_an_upload_starts_its_job_and_the_rows_come_back_in_order(rig: Rig) -> None:
    job_id = start(rig, table(500))
    job = rig.wait(job_id)
    assert job["progress"] == {"done": 500, "total": 500, "unit": "rows"}
    assert (job["kind"], job["version"]) == ("file", "1")
    rows = list(csv.DictReader(io.StringIO(download(rig, job_id).decode())))
    assert [row["id"] for row in rows] == [str(i) for i in range(500)]
    assert all(json.loads(row["prediction"])[0] == len(row["text"]) and not row["error"] for row in rows)


def test_json_lines_and_errors_of_single_rows(rig: Rig) -> None:
    lines = [{"text": "a"}, {"text": ""}, {"other": 1}, {"text": "b"}]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b"no JSON\n"
    job_id = start(rig, content, "application/jsonl")
    rig.wait(job_id)
    found = [json.loads(line) for line in download(rig, job_id).splitlines()]
    assert [row["prediction"] is None for row in found] == [False, True, True, False, True]
    assert [bool(row["error"]) for row in found] == [False, True, True, False, True]


def test_the_same_file_sent_twice_is_one_job(rig: Rig) -> None:
    first = start(rig, table(3))
    rig.wait(first)
    assert start(rig, table(3)) == first
    assert start(rig, table(4)) != first
    assert start(rig, table(3), parameters={"column": "id"}) != first


def test_no_cell_of_the_download_is_a_formula(rig: Rig) -> None:
    cells = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "-2+3", "\tx", "-1.5", "+1e3", "plain"]
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["=head", "text"])
    writer.writerows([cell, "x"] for cell in cells)
    job_id = start(rig, content.getvalue().encode())
    rig.wait(job_id)
    rows = list(csv.reader(io.StringIO(download(rig, job_id).decode())))
    assert rows[0][0] == "'=head"
    assert [row[0] for row in rows[1:]] == ["'" + cell for cell in cells[:5]] + cells[5:]


@pytest.mark.parametrize(
    ("content", "content_type", "parameters", "pointer"),
    [
        (b"id,other\n1,2\n", "text/csv", {}, "/parameters/column"),
        (b"text,text\n1,2\n", "text/csv", {}, "/upload"),
        (b"text\n1\n", "text/csv", {"no": 1}, "/parameters"),
    ],
)
def test_what_cannot_be_done_is_told_at_once(
    rig: Rig, content: bytes, content_type: str, parameters: dict[str, Any], pointer: str
) -> None:
    asked = ask(rig, content_type=content_type)
    assert send(rig, asked, content).status_code == 200
    body = {"kind": "file", "model": "minilm", "upload": asked["id"], "parameters": parameters}
    answer = rig.client.post("/jobs", json=body)
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, pointer)


def test_an_upload_whose_job_cannot_start_is_kept(rig: Rig) -> None:
    asked = ask(rig, job={"kind": "file", "model": "minilm"})
    sent = send(rig, asked, b"id,other\n1,2\n")
    assert sent.status_code == 200
    assert sent.get_json()["job_error"]["type"] == "/problems/invalid-input"
    body = {"kind": "file", "model": "minilm", "upload": asked["id"], "parameters": {"column": "other"}}
    rig.wait(rig.client.post("/jobs", json=body).get_json()["id"])


def test_a_file_that_ends_badly_fails_before_anything_is_computed(rig: Rig) -> None:
    job_id = start(rig, table(100) + b'1,"never closed\n')
    job = rig.wait(job_id, "failed")
    assert job["error"]["errors"][0]["pointer"] == "/upload"
    assert rig.service.computed == []
    assert rig.client.get(f"/jobs/{job_id}/result").status_code == 422


def test_jobs_want_bytes_that_came(rig: Rig) -> None:
    body = {"kind": "file", "model": "minilm", "upload": ask(rig)["id"]}
    assert rig.client.post("/jobs", json=body).get_json()["type"] == "/problems/upload-conflict"
    assert rig.client.post("/jobs", json={**body, "upload": "0" * 64}).get_json()["type"] == "/problems/unknown-upload"
    assert rig.client.post("/jobs", json={**body, "upload": "x"}).get_json()["errors"][0]["pointer"] == "/upload"
    video = ask(rig, content_type="video/mp4")
    send(rig, video, b"\0\0\0\x18ftypisom")
    refused = rig.client.post("/jobs", json={**body, "upload": video["id"]})
    assert refused.get_json()["errors"][0]["pointer"] == "/upload"


def test_cancel_ends_it_in_the_middle(rig: Rig) -> None:
    rig.service.gate.clear()
    job_id = start(rig, table(1000))
    assert rig.service.waiting.acquire(timeout=10)
    assert rig.client.delete(f"/jobs/{job_id}").status_code == 200
    wait_until(lambda: rig.service.abandoned >= 1, what="the calls end")
    rig.service.gate.set()
    rig.client.post(f"/jobs/{job_id}/retry")
    rig.wait(job_id)
    assert download(rig, job_id).count(b"\n") == 1001


def test_a_restart_goes_on_in_the_middle(tmp_path: Path) -> None:
    first = open_rig(tmp_path / "jobs")
    first.service.close_gate_after(10)
    job_id = start(first, table(1000))
    assert first.service.waiting.acquire(timeout=20)
    first.jobs.stop()
    done_before = sum(map(len, first.service.computed))
    assert 0 < done_before < 1000
    second = open_rig(tmp_path / "jobs")
    try:
        second.wait(job_id)
        rows = list(csv.DictReader(io.StringIO(download(second, job_id).decode())))
        assert [row["id"] for row in rows] == [str(i) for i in range(1000)]
        assert sum(map(len, second.service.computed)) < 1000
        assert list((tmp_path / "jobs" / "scratch").glob("*")) == []
    finally:
        second.jobs.stop()
