"""`python -m benchmarks.jobs.rates [--efs ./efs --model minilm]`: what a job costs, and how fast whole files go.

Starts a server of its own on the store. Prints JSON: from asking to starting, a job's time beside the request's, rows
of a file a second beside the same rows asked of /predict, and an upload beside what the disk takes.
"""

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.rigs.server import Server, server

CALLS = 100
ROWS_PER_REQUEST, REQUESTS_AT_ONCE = 32, 4  # as file jobs ask
UPLOAD_BYTES = 200 * 2**20


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def of_jobs(api: Server, model: str) -> dict[str, Any]:
    """Jobs one after the other, on an idle server."""
    starts, wholes, directs = [], [], []
    for i in range(CALLS):
        body = {"model": model, "inputs": [f"the rain of day {i}"]}
        began = time.perf_counter()
        assert api.post("/predict", body).status == 200
        directs.append(time.perf_counter() - began)
        body = {"kind": "predict", "model": model, "inputs": [f"the tea of day {i}"]}
        began = time.perf_counter()
        job = api.post("/jobs", body).json()
        job = api.get(f"/jobs/{job['id']}?wait=20").json()
        wholes.append(time.perf_counter() - began)
        starts.append(seconds(job["started"]) - seconds(job["created"]))
    return {
        "asking_to_starting_ms": {"p50": _ms(statistics.median(starts)), "max": _ms(max(starts))},
        "job_ms_p50": _ms(statistics.median(wholes)),
        "request_ms_p50": _ms(statistics.median(directs)),
    }


def send(api: Server, asked: dict[str, Any], content: Any) -> dict[str, Any]:
    parts = urlsplit(asked["url"])
    sent = requests.put(f"{api.url}{parts.path}?{parts.query}", data=content, timeout=600)
    assert sent.status_code == 200, sent.text
    found: dict[str, Any] = sent.json()
    return found


def of_files(api: Server, model: str, rows: int) -> dict[str, Any]:
    """The same texts as a file and by /predict, which is asked as the file's job asks."""
    texts = [f"the cat number {i} was seen in the rain, and drank its tea" for i in range(rows)]
    chunks = [texts[i : i + ROWS_PER_REQUEST] for i in range(0, rows, ROWS_PER_REQUEST)]

    def ask(chunk: list[str]) -> None:
        assert api.post("/predict", {"model": model, "inputs": chunk}).status == 200

    ask(chunks[0])
    began = time.perf_counter()
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        list(threads.map(ask, chunks))
    direct_s = time.perf_counter() - began
    content = b"text\n" + b"".join(f'"{text}"\n'.encode() for text in texts)
    body = {"content_type": "text/csv", "size": len(content), "job": {"kind": "file", "model": model}}
    job_id = send(api, api.post("/uploads", body).json(), content)["job"]
    while (job := api.get(f"/jobs/{job_id}?wait=20").json())["status"] in ("queued", "running"):
        pass
    assert job["status"] == "succeeded", job
    file_s = seconds(job["finished"]) - seconds(job["started"])
    return {
        "rows": rows,
        "direct_rows_per_s": round(rows / direct_s),
        "file_rows_per_s": round(rows / file_s),
        "share_of_direct": round(direct_s / file_s, 2),
    }


def of_uploads(api: Server, folder: Path) -> dict[str, Any]:
    block = b"a line of a hundred bytes,".ljust(99, b".") + b"\n"
    content = (block * (UPLOAD_BYTES // 100 + 1))[:UPLOAD_BYTES]
    began = time.perf_counter()
    with (folder / "probe").open("wb") as probe:
        probe.write(content)
        probe.flush()
        os.fsync(probe.fileno())
    disk_s = time.perf_counter() - began
    asked = api.post("/uploads", {"content_type": "text/csv", "size": UPLOAD_BYTES}).json()
    (web,) = api.pids_by_role()["web"]
    before = _peak_bytes(web)
    began = time.perf_counter()
    send(api, asked, io.BytesIO(content))
    upload_s = time.perf_counter() - began
    return {
        "disk_mb_per_s": round(UPLOAD_BYTES / disk_s / 1e6),
        "upload_mb_per_s": round(UPLOAD_BYTES / upload_s / 1e6),
        "share_of_disk": round(disk_s / upload_s, 2),
        "memory_growth_mb": round((_peak_bytes(web) - before) / 1e6, 1),
    }


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _ms(time_s: float) -> float:
    return round(time_s * 1000, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--efs", type=Path, default=Path("efs"))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--rows", type=int, default=10_000)
    parsed = parser.parse_args()
    settings = {"MODEL_API_EFS_ROOT": parsed.efs.absolute(), "MODEL_API_MODELS": parsed.model}
    with tempfile.TemporaryDirectory(prefix="jobs-rates-") as folder, server(Path(folder), **settings) as api:
        api.wait_until_ready()
        uploads = of_uploads(api, Path(folder))
        jobs = of_jobs(api, parsed.model)
        files = of_files(api, parsed.model, parsed.rows)
    print(json.dumps({"uploads": uploads, "jobs": jobs, "files": files}, indent=1))


if __name__ == "__main__":
    main()
