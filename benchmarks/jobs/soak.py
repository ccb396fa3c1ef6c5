"""`python -m benchmarks.jobs.soak [--jobs 10000] [--workers 3]`: jobs whose workers are killed at random.

Worker processes share one embedded store; now and then one of them gets SIGKILL, and another begins. In the end every
job must have one result, the right one, given by its last claim. Prints what happened as JSON; exit code 1 if not so.
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from model_api.jobs.objects import FileObjects, Signer
from model_api.jobs.presence import Presence
from model_api.jobs.queue import MAX_INLINE_BYTES, JobQueue, Request
from model_api.jobs.records import SqliteRecords
from model_api.jobs.runner import Outcome, Run, Runner
from model_api.jobs.sweeping import Sweeper

LEASE_S = 5.0
LARGE_EVERY = 50  # one result in so many is too large for its record
GIVE_UP_S = 1800.0
WORK_S = 0.05  # mean time of a job


def open_queue(folder: Path) -> JobQueue:
    objects = FileObjects(folder / "objects", Signer(b"soak"))
    return JobQueue(SqliteRecords(folder / "jobs.sqlite"), objects, max_waiting=10**9, max_attempts=10**6)


def answer_to(number: int) -> bytes:
    """What the job of that number gives."""
    padding = "x" * (MAX_INLINE_BYTES if number % LARGE_EVERY == 0 else 8)
    return orjson.dumps({"sum": hashlib.sha256(str(number).encode()).hexdigest(), "padding": padding})


def work_until_killed(folder: Path) -> None:
    """A worker process."""
    queue = open_queue(folder)
    presence = Presence(folder / "workers")

    def work(run: Run) -> Outcome:
        assert run.job.work is not None
        number = orjson.loads(queue.content(run.job.work))["n"]
        time.sleep(random.expovariate(1 / WORK_S))
        return Outcome(answer_to(number), {"digest": str(run.job.fence)})

    runner = Runner(
        queue,
        Sweeper(queue, LEASE_S, {"detail": "gone"}, presence.is_gone),
        work,
        lambda error: {"detail": str(error)},
        worker=presence.name,
        threads=2,
        lease_s=LEASE_S,
        stuck_s=60.0,
    )
    runner.start()
    threading.Event().wait()


def soak(folder: Path, n_jobs: int, n_workers: int, kill_every_s: float) -> dict[str, Any]:
    """What happened. Raises AssertionError where a job was lost or a result is wrong."""
    queue = open_queue(folder)
    context = multiprocessing.get_context("spawn")

    def begin() -> Any:
        process = context.Process(target=work_until_killed, args=(folder,), daemon=True)
        process.start()
        return process

    began = time.monotonic()
    workers = [begin() for _ in range(n_workers)]
    ids: dict[str, int] = {}
    killed = 0
    try:
        next_kill_s = began + kill_every_s
        unfinished: set[str] = set()
        while len(ids) < n_jobs or unfinished:
            if len(ids) < n_jobs:
                number = len(ids)
                request = Request(
                    kind="soak", work={"n": number}, model=None, version=None, digest=None, owner="", ttl_s=86400
                )
                job, _ = queue.submit(request)
                ids[job.id] = number
                unfinished.add(job.id)
            else:
                queue.changes.wait(queue.changes.number, 0.2)
                unfinished = {job_id for job_id in unfinished if not queue.get(job_id, "").is_over}
            if time.monotonic() > next_kill_s:
                victim = random.randrange(n_workers)
                workers[victim].kill()
                workers[victim].join()
                assert workers[victim].exitcode == -signal.SIGKILL
                workers[victim] = begin()
                killed += 1
                next_kill_s = time.monotonic() + random.uniform(0.3, 1.7) * kill_every_s
            assert time.monotonic() - began < GIVE_UP_S, f"{len(unfinished)} jobs aren't over"
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    attempts: Counter[int] = Counter()
    for job_id, number in ids.items():
        job = queue.get(job_id, "")
        assert job.result is not None, f"job {number} is {job.status}: {job.error}"
        assert queue.content(job.result) == answer_to(number), f"job {number} has another's result"
        assert job.digest == str(job.fence), f"job {number} has the result of an earlier claim"
        attempts[job.attempts] += 1
    elapsed_s = time.monotonic() - began
    queue.records.close()
    return {
        "jobs": len(ids),
        "workers_killed": killed,
        "attempts": dict(sorted(attempts.items())),
        "seconds": round(elapsed_s, 1),
        "jobs_per_s": round(len(ids) / elapsed_s, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--kill-every-s", type=float, default=1.0)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobs-soak-") as folder:
        try:
            print(json.dumps(soak(Path(folder), parsed.jobs, parsed.workers, parsed.kill_every_s)))
        except AssertionError as error:
            print(f"soak: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
