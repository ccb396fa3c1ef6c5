"""A web instance, a worker instance, and between them what AWS would be: every job has one result, the right one."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.jobs.test_server import finished
from tests.rigs.author import Author
from tests.rigs.fleet import Cloud, cloud
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import Server
from tests.rigs.sqs_daemon import sqs_daemon

pytestmark = pytest.mark.integration


@dataclass
class Fleet:
    aws: Cloud
    web: Server
    worker: Server
    queue_url: str
    dead_letters_url: str
    bucket: str

    def post_as_daemon(self, path: str, body: Any, **headers: str) -> requests.Response:
        return requests.post(
            f"{self.worker.url}{path}", json=body, headers={"X-Aws-Sqsd-Msgid": "m-1", **headers}, timeout=60
        )


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "efs").mkdir()
    Author(folder / "efs").publish(tiny_model(folder / "model", seed=1), "tiny")
    with cloud(folder) as aws:
        found = aws.put_resources()
        settings = {
            "MODEL_API_EFS_ROOT": folder / "efs",
            "MODEL_API_JOB_LEASE_S": 3,
            **aws.environment(found),
        }
        web = Server(folder / "web", settings)
        worker = Server(folder / "worker", {**settings, "MODEL_API_ROLE": "worker"})
        try:
            for instance in (web, worker):
                instance.start()
            for instance in (web, worker):
                instance.wait_until_ready()
            yield Fleet(aws, web, worker, found.queue_url, found.dead_letters_url, found.bucket)
        finally:
            web.close()
            worker.close()


def test_workers_do_what_the_web_instance_was_asked_for(fleet: Fleet) -> None:
    with sqs_daemon(fleet.aws, fleet.queue_url, lambda: fleet.worker.url) as daemon:
        bodies = [{"model": "tiny", "inputs": [f"text {i}"] * (1 if i else 300)} for i in range(10)]
        ids = [fleet.web.post("/jobs", {"kind": "predict", **body}).json()["id"] for body in bodies]
        for job_id, body in zip(ids, bodies, strict=True):
            job = finished(fleet.web, job_id)
            assert (job["status"], job["attempts"]) == ("succeeded", 1), job
            result = fleet.web.get(f"/jobs/{job_id}/result")
            lies_in_bucket = result.status == 303
            found = requests.get(result.headers["location"], timeout=30) if lies_in_bucket else result
            assert found.json() == fleet.web.post("/predict", body).json()
        assert fleet.web.get(f"/jobs/{ids[0]}/result").status == 303
        assert {status for _, status in daemon.answers} == {200}


def test_a_message_twice_too_late_or_of_nobody_changes_nothing(fleet: Fleet) -> None:
    job = fleet.web.post("/jobs", {"kind": "predict", "model": "tiny", "inputs": ["twice"]}).json()
    first = fleet.post_as_daemon("/worker/jobs", {"job": job["id"]})
    again = fleet.post_as_daemon("/worker/jobs", {"job": job["id"]})
    nobody = fleet.post_as_daemon("/worker/jobs", {"job": "0" * 64})
    assert [answer.json()["status"] for answer in (first, again, nobody)] == ["succeeded", None, None]
    assert fleet.web.get(f"/jobs/{job['id']}").json()["attempts"] == 1


def test_a_killed_workers_jobs_are_done_by_the_next(fleet: Fleet) -> None:
    inputs = ["the cat was published once"] * 1000
    with sqs_daemon(fleet.aws, fleet.queue_url, lambda: fleet.worker.url, connections=4):
        ids = [
            fleet.web.post("/jobs", {"kind": "predict", "model": "tiny", "inputs": [f"{i}", *inputs[1:]]}).json()["id"]
            for i in range(4)
        ]
        wait_until(
            lambda: any(fleet.web.get(f"/jobs/{job_id}").json()["status"] == "running" for job_id in ids),
            within_s=30,
            what="a running job",
        )
        fleet.worker.kill()
        fleet.worker.start()
        fleet.worker.wait_until_ready()
        found = [finished(fleet.web, job_id, within_s=120) for job_id in ids]
    assert [job["status"] for job in found] == ["succeeded"] * 4, found
    assert max(job["attempts"] for job in found) >= 2


def test_only_a_daemon_on_the_worker_itself_may(fleet: Fleet) -> None:
    body = {"job": "0" * 64}
    assert fleet.post_as_daemon("/worker/jobs", body).status_code == 200
    assert fleet.post_as_daemon("/worker/jobs", body, **{"X-Forwarded-For": "127.0.0.1"}).status_code == 200
    for forwarded in ("203.0.113.9", "127.0.0.1, 203.0.113.9", "unknown"):
        assert fleet.post_as_daemon("/worker/jobs", body, **{"X-Forwarded-For": forwarded}).status_code == 404
    assert fleet.worker.post("/worker/jobs", body).status == 404
    assert fleet.web.post("/worker/jobs", body, **{"X-Aws-Sqsd-Msgid": "m"}).status == 404


def test_the_clock_sweeps(fleet: Fleet) -> None:
    swept = requests.post(
        f"{fleet.worker.url}/worker/cron/sweep",
        headers={"X-Aws-Sqsd-Msgid": "m-1", "X-Aws-Sqsd-Taskname": "sweep"},
        timeout=30,
    )
    assert swept.status_code == 200
    assert swept.json()["dropped"] >= 0
    other = fleet.post_as_daemon("/worker/cron/other", {})
    assert (other.status_code, "no pipeline 'other'" in other.json()["error"]) == (200, True)  # else it comes for ever


def asked_upload(fleet: Fleet, content: bytes) -> dict[str, Any]:
    job = {"kind": "file", "model": "tiny"}
    found: dict[str, Any] = fleet.web.post(
        "/uploads", {"content_type": "text/csv", "size": len(content), "job": job}
    ).json()
    assert "X-Amz-Signature" in found["url"]
    return found


def send(asked: dict[str, Any], content: bytes) -> int:
    return requests.put(asked["url"], data=content, headers=asked["headers"], timeout=30).status_code


def test_an_upload_into_the_bucket_starts_its_job(fleet: Fleet) -> None:
    """The bucket tells the queue (with a quoted key), the daemon the worker; nobody asks for the job."""
    content = b"id,text\n1,first\n2,second\n"
    asked = asked_upload(fleet, content)
    assert send(asked, content) == 200
    with sqs_daemon(fleet.aws, fleet.queue_url, lambda: fleet.worker.url) as daemon:
        found = wait_until(
            lambda: next((job for job in fleet.web.get("/jobs?kind=file&status=succeeded").json()["jobs"]), None),
            within_s=60,
            what="the file's job",
        )
    assert found is not None
    assert any("ObjectCreated" in body and status == 200 for body, status in daemon.answers)
    leads = fleet.web.get(f"/jobs/{found['id']}/result")
    rows = requests.get(leads.headers["location"], timeout=30).text.splitlines()
    assert [row.split(",")[0] for row in rows] == ["id", "1", "2"]


def test_a_browser_s_form_sends_into_the_bucket(fleet: Fleet) -> None:
    content = b"id,text\n1,by form\n"
    body = {"content_type": "text/csv", "size": len(content), "method": "POST"}
    asked = fleet.web.post("/uploads", body).json()
    assert (asked["method"], "headers" in asked) == ("POST", False)
    policy = json.loads(base64.b64decode(asked["fields"]["policy"]))
    assert ["content-length-range", len(content), len(content)] in policy["conditions"]
    assert {"Content-Type": "text/csv"} in policy["conditions"]
    assert {"key": asked["fields"]["key"]} in policy["conditions"]
    assert "s3v4" not in asked["url"]
    assert asked["fields"]["x-amz-algorithm"] == "AWS4-HMAC-SHA256"
    sent = requests.post(asked["url"], data=asked["fields"], files={"file": ("in.csv", content)}, timeout=30)
    assert sent.status_code in (200, 201, 204), sent.text
    job = {"kind": "file", "model": "tiny", "upload": asked["id"]}
    started = wait_until(
        lambda: (found := fleet.web.post("/jobs", job)).status in (200, 202) and found, within_s=30, what="the job"
    )
    assert started
    with sqs_daemon(fleet.aws, fleet.queue_url, lambda: fleet.worker.url):
        assert finished(fleet.web, started.json()["id"])["status"] == "succeeded"
    unbounded = fleet.web.post("/uploads", {"content_type": "text/csv", "method": "POST"}).json()
    policy = json.loads(base64.b64decode(unbounded["fields"]["policy"]))
    assert ["content-length-range", 1, 200 * 2**20] in policy["conditions"]


def test_a_file_that_was_replaced_after_it_was_accepted_is_refused(fleet: Fleet) -> None:
    content = b"id,text\n1,accepted\n"
    asked = asked_upload(fleet, content)
    assert send(asked, content) == 200
    s3 = fleet.aws.client("s3")
    found = s3.list_objects_v2(Bucket=fleet.bucket, Prefix="uploads/")["Contents"]
    key = next(one["Key"] for one in found if asked["id"] in one["Key"])
    event = {"Records": [{"s3": {"bucket": {"name": fleet.bucket}, "object": {"key": key}}}]}
    (job_id,) = fleet.post_as_daemon("/worker/jobs", event).json()["uploads"]
    s3.put_object(Bucket=fleet.bucket, Key=key, Body=content.replace(b"accepted", b"replaced"))
    with sqs_daemon(fleet.aws, fleet.queue_url, lambda: fleet.worker.url):
        job = finished(fleet.web, job_id)
    assert (job["status"], job["error"]["errors"][0]["pointer"]) == ("failed", "/upload"), job


def test_events_of_uploads_may_be_odd_or_come_twice(fleet: Fleet) -> None:
    content = b"id,text\n1,other\n"
    asked = asked_upload(fleet, content)
    assert send(asked, content) == 200
    key = next(
        found["Key"]
        for found in fleet.aws.client("s3").list_objects_v2(Bucket=fleet.bucket, Prefix="uploads/")["Contents"]
        if asked["id"] in found["Key"]
    )
    event = {"Records": [{"s3": {"bucket": {"name": fleet.bucket}, "object": {"key": key.replace(".", "%2E")}}}]}
    assert fleet.post_as_daemon("/worker/jobs", {"Event": "s3:TestEvent"}).json() == {"ignored": True}
    started = [fleet.post_as_daemon("/worker/jobs", event).json()["uploads"][0] for _ in range(2)]
    assert started[0] == started[1]
    assert len(started[0]) == 64
    keys = ("results/x", "uploads/x", "uploads/" + "0" * 64)
    others = {"Records": [{"s3": {}}, *({"s3": {"object": {"key": key}}} for key in keys)]}
    assert fleet.post_as_daemon("/worker/jobs", others).status_code == 200


def test_a_large_file_is_shared_and_outlives_a_killed_worker(fleet: Fleet) -> None:
    n_rows = 16_000
    content = b"id,text\n" + b"".join(b"%d,the cat of row %d\n" % (i, i) for i in range(n_rows))
    asked = asked_upload(fleet, content)
    assert send(asked, content) == 200
    with sqs_daemon(fleet.aws, fleet.queue_url, lambda: fleet.worker.url, connections=3):

        def running() -> dict[str, Any] | None:
            """Not what a test before this one has left in the queue."""
            jobs = fleet.web.get("/jobs?kind=file&status=running").json()["jobs"]
            return next((one for one in jobs if one["progress"]["total"] == n_rows), None)

        job = wait_until(running, within_s=60, what="the file's job")
        assert job is not None
        path = f"/jobs/{job['id']}"
        wait_until(lambda: fleet.web.get(path).json()["progress"]["done"] > 1000, within_s=60, what="some rows")
        fleet.worker.kill()
        fleet.worker.start()
        fleet.worker.wait_until_ready()
        found = finished(fleet.web, job["id"], within_s=180)
    assert (found["status"], found["progress"]["done"]) == ("succeeded", n_rows), found
    leads = fleet.web.get(f"{path}/result")
    rows = requests.get(leads.headers["location"], timeout=60).text.splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [str(i) for i in range(n_rows)]
    assert not fleet.aws.client("s3").list_objects_v2(Bucket=fleet.bucket, Prefix="parts/").get("Contents")


def test_what_is_no_message_ends_among_the_dead_letters(fleet: Fleet) -> None:
    sqs = fleet.aws.client("sqs")
    sqs.send_message(QueueUrl=fleet.queue_url, MessageBody="no JSON at all")
    with sqs_daemon(fleet.aws, fleet.queue_url, lambda: fleet.worker.url, error_s=0) as daemon:
        wait_until(
            lambda: sqs.receive_message(QueueUrl=fleet.dead_letters_url).get("Messages"),
            within_s=60,
            what="a dead letter",
        )
    assert [status for body, status in daemon.answers if body == "no JSON at all"] == [400] * 10


def test_the_clocks_own_messages_have_no_body(fleet: Fleet) -> None:
    tasks = {"sweep": "/worker/cron/sweep"}
    with sqs_daemon(fleet.aws, fleet.queue_url, lambda: fleet.worker.url, tasks=tasks) as daemon:
        wait_until(lambda: any("scheduled" in body for body, _ in daemon.answers), within_s=30, what="a tick")
    assert {status for body, status in daemon.answers if "scheduled" in body} == {200}


def test_a_store_that_is_down_loses_nothing(fleet: Fleet, tmp_path: Path) -> None:
    unreachable = {**{k: v for k, v in fleet.web._environment.items() if k.startswith(("MODEL_API", "AWS_"))}}
    unreachable["AWS_ENDPOINT_URL_DYNAMODB"] = "http://127.0.0.1:9"
    for name in ("MODEL_API_LOCAL_STORE", "MODEL_API_INSTANCE"):
        unreachable.pop(name)
    api = Server(tmp_path / "api", unreachable)
    try:
        api.start()
        api.wait_until_ready()
        answer = api.post("/jobs", {"kind": "predict", "model": "tiny", "inputs": ["text"]})
        assert (answer.status, answer.json()["type"]) == (503, "/problems/jobs-down")
        assert answer.headers["retry-after"] == "5"
        assert json.loads(api.post("/predict", {"model": "tiny", "inputs": ["text"]}).body)["predictions"]
    finally:
        api.close()
