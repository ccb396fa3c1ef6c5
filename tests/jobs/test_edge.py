"""/jobs as callers meet it: the real routes and embedded stores over a small service."""

import json
from pathlib import Path
from typing import Any

import pytest

from model_api.web.later import preference
from tests.jobs.conftest import Rig, open_rig
from tests.rigs.polling import wait_until

PREDICT = {"kind": "predict", "model": "minilm", "inputs": ["text"]}


def test_a_job_gives_what_the_route_would(rig: Rig) -> None:
    direct = rig.client.post("/predict", json={"model": "minilm", "inputs": ["a text", "b"]})
    answer = rig.client.post("/jobs", json={"kind": "predict", "model": "minilm", "inputs": ["a text", "b"]})
    assert answer.status_code == 202
    assert answer.headers["Retry-After"] == "1"
    job = rig.wait(answer.headers["Location"].removeprefix("/jobs/"))
    assert job["result"] == direct.get_json()
    assert job["progress"] == {"done": 2, "total": 2, "unit": "inputs"}
    assert (job["model"], job["version"], job["digest"]) == ("minilm", "1", direct.get_json()["digest"])
    assert job["created"] <= job["started"] <= job["finished"] <= job["expires"]
    result = rig.client.get(f"/jobs/{job['id']}/result")
    assert result.get_json() == direct.get_json()
    assert result.headers["X-Model-Digest"] == job["digest"]


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/sim", "sim", {"target": "a", "texts": ["a", "b"]}),
        ("/score", "score", {"targets": ["a b"], "predictions": ["a c"]}),
    ],
)
def test_sim_and_score_are_jobs_too(rig: Rig, path: str, kind: str, body: dict[str, Any]) -> None:
    beside = rig.client.post("/jobs", json={"kind": kind, **body}).get_json()
    under = rig.client.post("/jobs", json={"kind": kind, "inputs": body}).get_json()
    assert beside["id"] == under["id"]
    assert rig.wait(beside["id"])["result"] == rig.client.post(path, json=body).get_json()


def test_a_task_is_a_kind(rig: Rig) -> None:
    assert rig.wait(rig.ask(kind="embedding")["id"])["kind"] == "embedding"
    refused = rig.client.post("/jobs", json={**PREDICT, "kind": "summarization"})
    assert (refused.status_code, refused.get_json()["errors"][0]["pointer"]) == (422, "/model")


def test_the_same_work_is_one_job_and_computed_once(rig: Rig) -> None:
    rig.service.gate.clear()
    first, second = rig.ask(), rig.ask(ttl_s=60)
    assert (first["http_status"], second["http_status"]) == (202, 200)
    assert first["id"] == second["id"] == rig.ask(parameters={}, model="minilm@1")["id"]
    assert rig.ask(["another"])["id"] != first["id"]
    rig.service.gate.set()
    rig.wait(first["id"])
    assert rig.ask()["http_status"] == 200
    assert [list(inputs) for inputs in rig.service.computed].count(["text"]) == 1


def test_unseeded_sampling_is_new_work_each_time_unless_a_key_says_otherwise(rig: Rig) -> None:
    rig.service.repeatable = False
    assert rig.ask()["id"] != rig.ask()["id"]
    keyed = [rig.client.post("/jobs", json=PREDICT, headers={"Idempotency-Key": "k-1"}) for _ in range(2)]
    assert keyed[0].get_json()["id"] == keyed[1].get_json()["id"]
    other = rig.client.post("/jobs", json={**PREDICT, "inputs": ["other"]}, headers={"Idempotency-Key": "k-1"})
    assert (other.status_code, other.get_json()["type"]) == (422, "/problems/idempotency-key-reused")


def test_unknown_waiting_failed_and_expired_are_four_answers(tmp_path: Path) -> None:
    rig = open_rig(tmp_path / "jobs", job_attempts=1)
    try:
        unknown = rig.client.get(f"/jobs/{'0' * 64}/result")
        rig.service.gate.clear()
        waiting_id = rig.ask(["waits"])["id"]
        waiting = rig.client.get(f"/jobs/{waiting_id}/result")
        rig.service.gate.set()
        rig.wait(waiting_id)
        rig.service.fail_after_check = True
        failed_id = rig.ask(["fails"])["id"]
        rig.wait(failed_id, "failed")
        failed = rig.client.get(f"/jobs/{failed_id}/result")
        rig.service.fail_after_check = False
        expired_id = rig.ask(["expires"], ttl_s=1)["id"]
        wait_until(
            lambda: rig.client.get(f"/jobs/{expired_id}").get_json()["status"] == "expired",
            within_s=10,
            every_s=0.05,
            what="expiry",
        )
        expired = rig.client.get(f"/jobs/{expired_id}/result")
        told = [(answer.status_code, answer.get_json()["type"]) for answer in (unknown, waiting, failed, expired)]
        assert told == [
            (404, "/problems/unknown-job"),
            (409, "/problems/job-unfinished"),
            (500, "/problems/job-failed"),
            (410, "/problems/job-expired"),
        ]
        assert failed.get_json()["error"]["type"] == "/problems/forward-failed"
        assert rig.client.get(f"/jobs/{failed_id}").get_json()["error"]["status"] == 500
        assert [job["id"] for job in rig.client.get("/jobs?status=failed").get_json()["jobs"]] == [failed_id]
    finally:
        rig.jobs.stop()


def test_cancel_ends_a_running_forward_and_retry_begins_again(rig: Rig) -> None:
    rig.service.gate.clear()
    job_id = rig.ask()["id"]
    assert rig.service.waiting.acquire(timeout=10)
    cancelled = rig.client.delete(f"/jobs/{job_id}")
    assert (cancelled.status_code, cancelled.get_json()["status"]) == (200, "cancelled")
    wait_until(lambda: rig.service.abandoned == 1, within_s=10, every_s=0.01, what="the forward ends")
    assert rig.client.get(f"/jobs/{job_id}/result").status_code == 410
    assert rig.client.delete(f"/jobs/{job_id}").status_code == 409
    rig.service.gate.set()
    again = rig.client.post(f"/jobs/{job_id}/retry")
    assert again.status_code == 202
    rig.wait(job_id)
    assert rig.client.post(f"/jobs/{job_id}/retry").get_json()["type"] == "/problems/job-over"
    assert rig.client.delete(f"/jobs/{job_id}").get_json()["type"] == "/problems/job-over"


def test_cancelled_work_asked_again_begins_again(rig: Rig) -> None:
    rig.service.gate.clear()
    job_id = rig.ask()["id"]
    rig.client.delete(f"/jobs/{job_id}")
    rig.service.gate.set()
    again = rig.ask()
    assert (again["http_status"], again["id"]) == (202, job_id)
    rig.wait(job_id)


def test_a_large_result_is_at_an_address_signed_when_it_is_asked(rig: Rig) -> None:
    texts = [f"text {i} " + "x" * 100 for i in range(900)]
    asked = rig.client.post("/jobs", json={"kind": "sim", "target": "t", "texts": texts}).get_json()
    job = rig.wait(asked["id"])
    assert "result" not in job
    leads = rig.client.get(job["result_url"])
    assert leads.status_code == 303
    address = leads.headers["Location"]
    with rig.client.get(address) as found:
        assert len(found.get_json()["context"]["sims"]) == 900
        assert "attachment" in found.headers["Content-Disposition"]
    for wrong in (address[:-1] + "x", address.replace("application%2Fjson", "text%2Fhtml"), address.partition("?")[0]):
        assert rig.client.get(wrong).status_code == 403
    with rig.client.get(address, headers={"Range": "bytes=0-9"}) as part:
        assert (part.status_code, len(part.data)) == (206, 10)


def test_a_change_is_told_by_the_etag(rig: Rig) -> None:
    rig.service.gate.clear()
    job_id = rig.ask()["id"]
    assert rig.service.waiting.acquire(timeout=10)
    seen = rig.client.get(f"/jobs/{job_id}")
    unchanged = rig.client.get(f"/jobs/{job_id}", headers={"If-None-Match": seen.headers["ETag"]})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    rig.service.gate.set()
    changed = rig.client.get(f"/jobs/{job_id}?wait=10", headers={"If-None-Match": seen.headers["ETag"]})
    assert changed.status_code == 200
    assert changed.get_json()["status"] == "succeeded"


def test_lists_go_page_by_page(rig: Rig) -> None:
    asked = [rig.ask([f"text {i}"])["id"] for i in range(5)]
    for job_id in asked:
        rig.wait(job_id)
    seen, after = [], ""
    while True:
        page = rig.client.get(f"/jobs?limit=2{after}").get_json()
        seen += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == asked[::-1]
    assert rig.client.get("/jobs?kind=sim").get_json()["jobs"] == []
    for wrong in ("status=done", "limit=0", "after=x", "statos=failed"):
        assert rig.client.get(f"/jobs?{wrong}").status_code == 422


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({**PREDICT, "kind": "dance"}, "/kind"),
        ({**PREDICT, "ttl_s": 0}, "/ttl_s"),
        ({**PREDICT, "ttl_s": 1e9}, "/ttl_s"),
        ({**PREDICT, "inputs": [""]}, "/inputs/0"),
        ({**PREDICT, "inputs": ""}, "/inputs"),
        ({**PREDICT, "inputs": None}, "/inputs"),
        ({**PREDICT, "parameters": {"no": 1}}, "/parameters"),
        ({"kind": "predict", "inputs": ["text"]}, "/model"),
        ({"kind": "sim", "inputs": {"target": "", "texts": []}}, "/inputs/target"),
        ({"kind": "sim", "target": "", "texts": []}, "/target"),
        ({"kind": "sim", "inputs": {"target": "a", "texts": [], "no": 1}}, "/inputs/no"),
        ({"kind": "score", "targets": ["a"], "predictions": []}, "/predictions"),
        ({**PREDICT, "notify": "http://127.0.0.1/hook"}, "/notify"),
        ({**PREDICT, "notify": "ftp://example.com"}, "/notify"),
        ({**PREDICT, "texts": ["a"]}, "/texts"),
    ],
)
def test_what_the_route_refuses_is_refused(rig: Rig, body: dict[str, Any], pointer: str) -> None:
    answer = rig.client.post("/jobs", json=body)
    assert answer.status_code == 422, answer.data
    assert answer.get_json()["errors"][0]["pointer"] == pointer


def test_a_model_that_is_not_published_is_not_waited_for(rig: Rig) -> None:
    assert rig.client.post("/jobs", json={**PREDICT, "model": "nope"}).status_code == 404
    assert rig.client.post("/jobs", json={**PREDICT, "model": "minilm@9"}).status_code == 404
    assert rig.client.get("/jobs/short").status_code == 404


def test_prefer_makes_a_job_of_a_request(rig: Rig) -> None:
    body = {"model": "minilm", "inputs": "text"}
    rig.service.gate.clear()
    later = rig.client.post("/predict", json=body, headers={"Prefer": "respond-async"})
    assert (later.status_code, later.headers["Preference-Applied"]) == (202, "respond-async")
    rig.service.gate.set()
    waited = rig.client.post("/predict", json=body, headers={"Prefer": "respond-async, wait=10"})
    assert (waited.status_code, waited.headers["Preference-Applied"]) == (200, "wait=10")
    assert waited.get_json() == rig.client.post("/predict", json=body).get_json()
    assert waited.headers["X-Model"] == "minilm"
    assert later.headers["Location"] == f"/jobs/{later.get_json()['id']}"


def test_a_504_leads_to_the_job_that_goes_on_and_repeating_joins_it(tmp_path: Path) -> None:
    rig = open_rig(tmp_path / "jobs", request_timeout_s=0.3)
    try:
        body = {"model": "minilm", "inputs": ["text"]}
        rig.service.gate.clear()
        late = rig.client.post("/predict", json=body)
        assert late.status_code == 504
        location = late.headers["Location"]
        again = rig.client.post("/predict", json=body)
        assert (again.status_code, again.headers["Location"]) == (504, location)
        rig.service.gate.set()
        rig.wait(location.removeprefix("/jobs/"))
        joined = rig.client.post("/predict", json=body)
        assert joined.status_code == 200
        assert joined.headers["Content-Location"] == f"{location}/result"
        assert [list(inputs) for inputs in rig.service.computed] == [["text"]]
        assert "Content-Location" not in rig.client.post("/predict", json=body).headers
    finally:
        rig.jobs.stop()


@pytest.mark.parametrize(
    ("header", "respond_async", "wait_s"),
    [
        ("", False, None),
        ("respond-async", True, None),
        ("Respond-Async, wait=5", True, 5),
        ('wait="7"', False, 7),
        ("handling=lenient; foo, wait = 3;x=1", False, 3),
        ("wait=-1, wait=soon", False, None),
        ("wait=2, wait=9", False, 2),
    ],
)
def test_prefer_is_read_as_the_rfc_has_it(header: str, respond_async: bool, wait_s: int | None) -> None:
    found = preference(header)
    assert (found.respond_async, found.wait_s) == (respond_async, wait_s)


def test_where_jobs_cannot_be_kept_the_rest_is_served(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("a file, where a folder should be")
    rig = open_rig(tmp_path / "jobs")
    try:
        answer = rig.client.post("/jobs", json=PREDICT)
        assert (answer.status_code, answer.get_json()["type"]) == (503, "/problems/jobs-down")
        assert answer.headers["Retry-After"] == "5"
        assert rig.client.post("/predict", json={"model": "minilm", "inputs": ["text"]}).status_code == 200
    finally:
        rig.jobs.stop()


def test_too_many_waiting_jobs_are_refused_and_joining_is_not(tmp_path: Path) -> None:
    rig = open_rig(tmp_path / "jobs", max_waiting_jobs=1, jobs_at_once=0)
    try:
        first = rig.ask(["one"])
        refused = rig.client.post("/jobs", json={**PREDICT, "inputs": ["two"]})
        assert (refused.status_code, refused.get_json()["type"]) == (503, "/problems/jobs-full")
        assert rig.ask(["one"])["id"] == first["id"]
    finally:
        rig.jobs.stop()


def test_a_restart_goes_on(tmp_path: Path) -> None:
    first = open_rig(tmp_path / "jobs")
    first.service.gate.clear()
    ids = [first.ask([f"text {i}"])["id"] for i in range(5)]
    assert first.service.waiting.acquire(timeout=10)
    first.jobs.stop()
    second = open_rig(tmp_path / "jobs")
    try:
        for job_id in ids:
            assert second.wait(job_id)["attempts"] == 1
    finally:
        second.jobs.stop()


def test_documents_hold_no_secret_of_the_record(rig: Rig) -> None:
    job = rig.wait(rig.ask()["id"])
    assert not {"work", "worker", "owner", "fingerprint", "fence"} & job.keys()
    assert json.dumps(job)
