"""`python -m benchmarks.jobs.large_file [--rows 1000000]`: a large file in parts, with nothing predicted.

Over the embedded stores, by one worker: what cutting, sharing, notes and joining cost by themselves. Prints JSON:
seconds, and how much the process's memory grew.
"""

import argparse
import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_api.jobs.files.parts import Sharing
from model_api.jobs.files.work import FileWork
from model_api.jobs.job import Job
from model_api.jobs.objects import FileObjects, Signer
from model_api.jobs.queue import JobQueue, Request
from model_api.jobs.records import SqliteRecords
from model_api.jobs.runner import Runner
from model_api.jobs.sweeping import Sweeper
from model_api.jobs.uploads import upload_key
from model_api.serving.calls import Answer, CallContext
from tests.rigs.stand_in_service import StandInService

UPLOAD = "0" * 64


class NoModel(StandInService):
    """Answers at once."""

    def predict(self, model: str, inputs: Sequence[Any], parameters: Mapping[str, Any], context: CallContext) -> Answer:
        return Answer("minilm", "1", "d1", "embedding", [[0.5]] * len(inputs), 0, (), 0.0, 0.0, 1)


def measure(folder: Path, n_rows: int) -> dict[str, Any]:
    objects = FileObjects(folder / "objects", Signer(b"secret"))
    queue = JobQueue(SqliteRecords(folder / "jobs.sqlite"), objects, max_waiting=10**6, max_attempts=3)
    service = NoModel()
    work = FileWork(service, objects, folder / "scratch", 60.0, Sharing(queue))
    told = {"detail": "gone"}
    runner = Runner(
        queue,
        Sweeper(queue, 30.0, told),
        lambda run: work(run, {**json.loads(queue.content(run.job.work)), **_key(run.job)}),  # type: ignore[arg-type]
        lambda error: {"detail": repr(error)},
        worker="one",
        threads=0,
        lease_s=30.0,
        stuck_s=60.0,
    )
    digest = hashlib.sha256()
    with objects.writer(upload_key(UPLOAD), "text/csv") as stream:
        for i in range(-1, n_rows):
            line = b"%d,the cat number %d was seen in the rain\n" % (i, i) if i >= 0 else b"id,text\n"
            stream.write(line)
            digest.update(line)
    asked = {"call": "file", "model": "minilm", "column": "text", "content_type": "text/csv", "parameters": {}}
    weights = service.predict_weights("minilm", [], {}, CallContext(0.0, "", "", lambda: False))
    request = Request(
        kind="file",
        work={**asked, "sha256": digest.hexdigest()},
        model="minilm",
        version=weights.version,
        digest=weights.digest,
        upload=UPLOAD,
        owner="",
        ttl_s=3600,
        unit="rows",
    )
    job, _ = queue.submit(request)
    runner.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    after = runner.run_one(job.id)
    seconds = time.monotonic() - began
    growth_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    runner.stop()
    assert after is not None, "its lease was lost"
    assert (str(after.status), after.progress.done) == ("succeeded", n_rows), after.error
    return {"rows": n_rows, "seconds": round(seconds, 1), "memory_growth_mb": round(growth_kb / 1000, 1)}


def _key(job: Job) -> dict[str, str]:
    return {} if job.kind == "part" else {"key": upload_key(UPLOAD)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobs-large-") as folder:
        print(json.dumps(measure(Path(folder), parsed.rows)))


if __name__ == "__main__":
    main()
