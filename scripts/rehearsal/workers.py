"""scripts/rehearse --worker: the same bundle on a web and two worker instances, and what becomes of jobs.

Real nginx, gunicorn and user webapp on each; between them SQS, S3 and DynamoDB as scripts/rehearsal/aws.py has them,
and on each worker a daemon (sqsd.py) that the engine started from the saved configuration's own options.
"""

import csv
import io
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from scripts.rehearsal.fleet import DeploymentFailed
from scripts.rehearsal.network import inside
from scripts.rehearsal.rehearsal import Rehearsal, demo_weights
from scripts.rehearsal.show import say
from scripts.rehearsal.traffic import Reply
from scripts.rehearsal.upload import Owner, cloud

WEB, WORKERS = "rehearsal", "rehearsal-worker"
JOBS = 20
ROWS = 6000
WAIT_S = 180.0
TEXT = "The harbour lay still in the morning, and the boats that had come in at night were not yet unloaded."


def create(owner: Owner) -> None:
    """Both environments, as docs/deploy.md says, and a bundle of the work tree."""
    owner.create(WEB, "--jobs", "--open")
    owner.run("eb", "create", WORKERS, "-t", "worker", "--cfg", "worker", "--timeout", "40")
    owner.deploy("first")


def bring_up(rehearsal: Rehearsal, owner: Owner) -> None:
    """One web instance and two workers that serve minilm; the first worker leads."""
    rehearsal.publisher.model_api("publish", str(demo_weights()), "--model", "minilm")
    rehearsal.fleet.scale_out(owner.bundle("first"))
    say("web instance in service")
    rehearsal.workers.image = rehearsal.fleet.image
    rehearsal.workers.bundle = owner.bundle("first")
    for leads in ("true", "false"):
        rehearsal.workers.options["aws:elasticbeanstalk:sqsd"]["IsLeader"] = leads
        name = rehearsal.workers.scale_out().name
        say(f"{name} ready: nginx, application, daemon" + (", which leads" if leads == "true" else ""))


def job(rehearsal: Rehearsal, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(rehearsal, "GET", f"/jobs/{job_id}").json()
    return found


def ask(rehearsal: Rehearsal, method: str, path: str, body: object = None) -> Reply:
    """Asked again while the one web instance is out of traffic: on a busy machine the health checks are strict."""

    def answered() -> Reply | None:
        reply = rehearsal.ask(method, path, body)
        return None if reply.status >= 500 else reply

    reply: Reply = until("an answer", answered)
    return reply


def until(what: str, look: Callable[[], Any]) -> Any:
    """What `look` gives as soon as it isn't nothing. TimeoutError."""
    deadline = time.monotonic() + WAIT_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {WAIT_S:.0f} s")
        time.sleep(0.1)
    return found


def worker_of(rehearsal: Rehearsal, job_id: str) -> str:
    """The machine whose claim the record has; "" while nobody runs it."""
    with inside(rehearsal.aws_name):
        found = rehearsal.aws.client("dynamodb").get_item(
            TableName=rehearsal.resources.table, Key={"id": {"S": job_id}}, ConsistentRead=True
        )
    record = json.loads(found["Item"]["record"]["S"])
    return str(record["worker"]).rpartition("-")[0] if record["status"] == "running" else ""


def small_jobs(rehearsal: Rehearsal) -> list[dict[str, Any]]:
    """Many at once; each when it is over."""
    bodies = [{"kind": "predict", "model": "minilm", "inputs": [f"{TEXT} {number}"]} for number in range(JOBS)]
    ids = [ask(rehearsal, "POST", "/jobs", body).json()["id"] for body in bodies]
    return [until("a job", partial(over, rehearsal, job_id)) for job_id in ids]


def over(rehearsal: Rehearsal, job_id: str) -> dict[str, Any] | None:
    found = job(rehearsal, job_id)
    return None if found["status"] in ("queued", "running") else found


def send_file(rehearsal: Rehearsal) -> str:
    """A file into the bucket, by the address that the API signed; the id of the job that the bucket's event began."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["id", "text"])
    writer.writerows([number, f"{TEXT} {number}"] for number in range(ROWS))
    content = table.getvalue().encode()
    work = {"kind": "file", "model": "minilm"}
    asked = ask(rehearsal, "POST", "/uploads", {"content_type": "text/csv", "size": len(content), "job": work}).json()
    fetch(rehearsal, asked["url"], asked["method"], content, asked["headers"])
    (found,) = until("the file's job", lambda: ask(rehearsal, "GET", "/jobs?kind=file").json()["jobs"])
    return str(found["id"])


def fetch(
    rehearsal: Rehearsal,
    url: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """From the client's machine."""
    with inside(rehearsal.client):
        request = urllib.request.Request(url, body, dict(headers or {}), method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())


def rows_of(rehearsal: Rehearsal, job_id: str) -> list[dict[str, str]]:
    """The result of a file's job, by the address that the API signed for it."""
    leads = ask(rehearsal, "GET", f"/jobs/{job_id}/result")
    return list(csv.DictReader(io.StringIO(fetch(rehearsal, leads.headers["location"]).decode())))


def scale_in_under(rehearsal: Rehearsal, job_id: str) -> str:
    """Take the power from the worker that runs the job; its name."""
    name = until("a running job", lambda: worker_of(rehearsal, job_id))
    until("progress", lambda: job(rehearsal, job_id)["progress"]["done"])
    (victim,) = [instance for instance in rehearsal.workers.instances if instance.name == name]
    rehearsal.workers.terminate(victim)
    return str(name)


def messages(rehearsal: Rehearsal, queue_url: str) -> int:
    """Waiting or in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    with inside(rehearsal.aws_name):
        found = rehearsal.aws.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
    return sum(int(found["Attributes"][name]) for name in names)


def spoil(rehearsal: Rehearsal) -> None:
    """A message that is none: tried ten times, then among the dead letters."""
    with inside(rehearsal.aws_name):
        rehearsal.aws.client("sqs").send_message(QueueUrl=rehearsal.resources.queue_url, MessageBody="no JSON at all")
    until("a dead letter", lambda: messages(rehearsal, rehearsal.resources.dead_letters_url))


def show(rehearsal: Rehearsal, owner: Owner) -> None:
    rehearsal.fill_wheelhouse(owner, os.environ)
    say("wheelhouse filled")
    bring_up(rehearsal, owner)
    began = time.monotonic()
    done = small_jobs(rehearsal)
    if {one["status"] for one in done} != {"succeeded"}:
        raise SystemExit(f"rehearse: {done}")
    say(f"{JOBS} jobs asked of the web instance, done by workers, in {time.monotonic() - began:.1f} s")
    job_id = send_file(rehearsal)
    say(f"{ROWS} rows sent into the bucket; its event began job {job_id[:8]}")
    name = scale_in_under(rehearsal, job_id)
    say(f"{name} lost its power in the middle of it, {job(rehearsal, job_id)['progress']['done']} rows done")
    until("another worker", lambda: worker_of(rehearsal, job_id) not in ("", name))
    say(f"{worker_of(rehearsal, job_id) or 'another'} goes on with it")
    until("the end", lambda: job(rehearsal, job_id)["status"] == "succeeded")
    rows = rows_of(rehearsal, job_id)
    if [row["id"] for row in rows] != [str(number) for number in range(ROWS)] or any(row["error"] for row in rows):
        raise SystemExit("rehearse: rows are missing, twice or wrong")
    say(f"done: {len(rows)} rows in order, each once, attempt {job(rehearsal, job_id)['attempts']}")
    spoil(rehearsal)
    say("a message that is none is among the dead letters, after ten tries")
    say(f"scaled out again: {rehearsal.workers.scale_out().name}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rehearsal-owner-") as folder:
        work = Path(folder)
        with cloud(work / "journal") as environ:
            owner = Owner(work / "clone", environ, work / "journal")
            create(owner)
            say("eb init, create, create -t worker and deploy done (against moto)")
            rehearsal = Rehearsal(owner, WEB, workers=WORKERS)
            try:
                show(rehearsal, owner)
            except (DeploymentFailed, TimeoutError) as failure:
                sys.exit(f"rehearse: {failure}")
            finally:
                rehearsal.close()


if __name__ == "__main__":
    main()
