"""A file in parts: the same result as in one go, in order, whoever does them and whoever dies."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_api.jobs import opening
from model_api.jobs.files.forms import open_form
from model_api.jobs.files.parts import OWNER, PART, Sharing, survey
from model_api.jobs.files.tables import CSV, JSON_LINES
from model_api.jobs.records import Listing
from model_api.settings import Settings
from tests.jobs.conftest import GatedService, Rig, open_rig
from tests.jobs.faults import Crashed, Faulty
from tests.jobs.files.test_file_jobs import download, start, table
from tests.rigs.polling import wait_until

PART_ROWS = 100
CELLS = st.text(st.sampled_from('ab,"\n\r é=+'), max_size=8)


@pytest.fixture(autouse=True)
def _shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a fleet, over the embedded stores."""
    monkeypatch.setattr(opening, "_sharing", lambda queue, local: Sharing(queue, PART_ROWS))


def parts_of(content: bytes, form: str, part_rows: int) -> list[tuple[bytes, int]]:
    found = survey(io.BytesIO(content), form, "text", part_rows, lambda: None)
    return [(content[: found.head] + content[cut.begin : cut.end], cut.lines) for cut in found.cuts]


def rows_of(content: bytes, form: str, lines: int | None = None) -> list[Any]:
    return list(open_form(form, io.BytesIO(content), "text", lines))


@given(st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=30), st.integers(1, 7))
@settings(deadline=None)
def test_parts_of_csv_are_its_rows_with_their_line_numbers(rows: list[list[str]], part_rows: int) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id\nof it", "text"])
    writer.writerows(rows)  # too few fields, or too many, are told with the line
    content = text.getvalue().encode()
    whole = rows_of(content, CSV)
    assert [row for part, lines in parts_of(content, CSV, part_rows) for row in rows_of(part, CSV, lines)] == whole


@given(st.lists(st.one_of(CELLS.map(lambda t: json.dumps({"text": t})), st.just(""), st.just("no JSON")), max_size=30))
@settings(deadline=None)
def test_parts_of_json_lines_too(lines_of_file: list[str]) -> None:
    content = "\n".join(lines_of_file).encode()
    whole = rows_of(content, JSON_LINES)
    found = [row for part, lines in parts_of(content, JSON_LINES, 3) for row in rows_of(part, JSON_LINES, lines)]
    assert found == whole


def ids(rig: Rig, job_id: str) -> list[str]:
    return [row["id"] for row in csv.DictReader(io.StringIO(download(rig, job_id).decode()))]


def objects_left(folder: Path, kind: str) -> list[str]:
    return [file.name for file in (folder / "jobs" / "objects" / kind).glob("*")]


def test_a_file_in_parts_is_the_file(rig: Rig, tmp_path: Path) -> None:
    content = table(1030).replace(b"500,text 500\n", b"500,text 500,too much\n")
    job_id = start(rig, content)
    job = rig.wait(job_id)
    assert job["progress"] == {"done": 1030, "total": 1030, "unit": "rows", "errors": 1}
    rows = list(csv.DictReader(io.StringIO(download(rig, job_id).decode())))
    assert [row["id"] for row in rows] == [str(i) for i in range(1030)]
    assert [row["error"] for row in rows if row["error"]] == ["line 502 has 3 fields, the header 2"]
    assert sum(map(len, rig.service.computed)) == 1029
    assert [found["id"] for found in rig.client.get("/jobs").get_json()["jobs"]] == [job_id]
    wait_until(lambda: rig.jobs.queue.page(Listing(OWNER)) == [], what="parts forgotten, once the whole is safe")
    wait_until(lambda: objects_left(tmp_path, "parts") == [], what="their rows removed")
    assert len(objects_left(tmp_path, "results")) == 1


def test_two_workers_share_it(rig: Rig) -> None:
    """Both of this server's threads take parts: more than two jobs are seen running, the file's among them."""
    job_id = start(rig, table(3000))
    seen: list[str] = []

    def workers() -> bool:
        seen.extend(job.id for job in rig.jobs.queue.records.running(100))
        return bool(rig.client.get(f"/jobs/{job_id}").get_json()["status"] == "succeeded")

    wait_until(workers, within_s=60, every_s=0.01, what="the file")
    assert ids(rig, job_id) == [str(i) for i in range(3000)]
    assert len(set(seen)) > 2


def test_cancelled_the_parts_end_too(rig: Rig) -> None:
    rig.service.gate.clear()
    job_id = start(rig, table(1000))
    assert rig.service.waiting.acquire(timeout=10)
    assert rig.client.delete(f"/jobs/{job_id}").status_code == 200
    rig.service.gate.set()
    queue = rig.jobs.queue
    wait_until(lambda: not queue.records.running(10) and not queue.records.queued(10), within_s=30, what="quiet")
    assert sum(map(len, rig.service.computed)) < 1000
    rig.client.post(f"/jobs/{job_id}/retry")
    rig.wait(job_id)
    assert ids(rig, job_id) == [str(i) for i in range(1000)]


def test_a_part_that_fails_fails_the_file_and_a_retry_keeps_the_others(rig: Rig) -> None:
    rig.service.close_gate_after(5)
    job_id = start(rig, table(1000))
    assert rig.service.waiting.acquire(timeout=10)
    queue = rig.jobs.queue
    failing = next(job for job in queue.records.running(10) if job.kind == PART)
    queue.fail(failing, {"detail": "the disk of this worker failed", "status": 500}, for_good=True)
    rig.service.close_gate_after(1 << 30)
    rig.service.gate.set()
    job = rig.wait(job_id, "failed")
    assert job["error"]["type"] == "/problems/job-failed"
    assert "the disk of this worker failed" in json.dumps(job["error"])
    rig.client.post(f"/jobs/{job_id}/retry")
    rig.wait(job_id)
    assert ids(rig, job_id) == [str(i) for i in range(1000)]
    assert len(rig.service.computed) < 2 * 1000 / 32


def run_until_death(folder: Path, job_id: str, after_steps: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A worker that dies at that step at its stores; whether it did, or was done before."""
    left = [after_steps]

    def step(name: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Crashed

    with monkeypatch.context() as patched:
        for name in ("SqliteRecords", "FileObjects"):
            made = getattr(opening, name)
            patched.setattr(opening, name, lambda *args, made=made: Faulty(made(*args), step, step))
        parts = opening.open_jobs(GatedService(), Settings(jobs_dir=folder), lambda error: {"detail": str(error)})
    try:
        parts.runner.run_one(job_id)
    except Crashed:
        return True
    finally:
        parts.close()  # its name is gone, as a dead process's lock is
    return False


@pytest.mark.parametrize("after_steps", [*range(0, 64, 8), *range(65, 145, 20), 10_000])
def test_killed_at_any_step_no_row_is_lost_or_twice(
    tmp_path: Path, after_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker dies after so many steps; another finds what it left, and ends it."""
    folder = tmp_path / "jobs"
    first = open_rig(folder, jobs_at_once=0)
    job_id = start(first, table(350))
    first.jobs.stop()
    assert run_until_death(folder, job_id, after_steps, monkeypatch) or after_steps > 100
    last = open_rig(folder)
    try:
        last.wait(job_id)
        assert ids(last, job_id) == [str(i) for i in range(350)]
    finally:
        last.jobs.stop()
