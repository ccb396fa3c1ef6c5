"""`python -m benchmarks.videos`: jobs on videos beside a plain PyTorch loop over the same files, in turns, and what a
caller of /sim notices of them.

Starts a server of its own. The loop has PyTorch's own number of threads and the model in memory; the server's time runs
from the first POST /jobs to the last score, sandbox, queue and records included. Prints JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests

from scripts.training.diving.encoding import encode
from scripts.training.diving.fitting import CONFIG
from scripts.training.diving.scenes import draw_dive
from tests.rigs.author import Author
from tests.rigs.models import minilm_folder
from tests.rigs.project import ROOT
from tests.rigs.server import Server, server
from tests.rigs.videos import save_network, small_c3d, small_network

SIM = {"model": "minilm", "target": "A cat sits on the mat.", "texts": ["A kitten is sitting on a rug."]}


def make_files(folder: Path, seed: int, n: int) -> list[Path]:
    """Drawn dives of about 52 frames, 360 x 480."""
    files = []
    for number in range(n):
        drawn = draw_dive(np.random.default_rng((seed, number)), 360, 480)
        files.append(folder / f"{seed}-{number}.mp4")
        files[-1].write_bytes(encode(drawn.frames, "mp4", crf="23", preset="veryfast"))
    return files


def send(api: Server, file: Path) -> str:
    asked = api.post("/uploads", {"content_type": "video/mp4"}).json()
    parts = urlsplit(asked["url"])
    sent = requests.put(f"{api.url}{parts.path}?{parts.query}", data=file.read_bytes(), timeout=60)
    assert sent.status_code == 200, sent.text
    return str(asked["id"])


def judge(api: Server, model: str, uploads: list[str]) -> tuple[float, list[float]]:
    """Seconds for all, and the predictions."""
    began = time.perf_counter()
    asked = [
        api.post("/jobs", {"kind": "video-regression", "model": model, "upload": upload}).json() for upload in uploads
    ]
    predictions = []
    for job in asked:
        while (found := api.get(f"/jobs/{job['id']}?wait=20").json())["status"] in ("queued", "running"):
            pass
        assert found["status"] == "succeeded", found
        predictions.append(found["result"]["predictions"][0]["prediction"])
    return time.perf_counter() - began, predictions


def beside_a_loop(api: Server, model: str, folder: Path, files_of_rounds: list[list[Path]]) -> dict[str, Any]:
    ours, loops, differences = [], [], []
    for files in files_of_rounds:
        uploads = [send(api, file) for file in files]
        command = [sys.executable, "-m", "benchmarks.plain_video_loop", str(folder), *map(str, files)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as loop:
            assert loop.stdin is not None
            assert loop.stdout is not None
            assert loop.stdout.readline() == "ready\n"
            loop.stdin.write("go\n")
            loop.stdin.close()
            told = json.loads(loop.stdout.readline())
        seconds, predictions = judge(api, model, uploads)
        loops.append(told["seconds"] / len(files))
        ours.append(seconds / len(files))
        differences += [abs(a - b) for a, b in zip(predictions, told["predictions"], strict=True)]
    return {
        "seconds_a_video": round(statistics.median(ours), 3),
        "loop_seconds_a_video": round(statistics.median(loops), 3),
        "times_as_fast": round(statistics.median(b / a for a, b in zip(ours, loops, strict=True)), 2),
        "largest_difference": round(max(differences), 4),
    }


def latencies(api: Server, seconds: float) -> dict[str, float]:
    """One caller of /sim."""
    took = []
    client, until = api.client(), time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        assert client.ask("POST", "/sim", SIM).status == 200
        took.append((time.perf_counter() - began) * 1e3)
    client.close()
    return {"p50_ms": round(float(np.percentile(took, 50)), 2), "p99_ms": round(float(np.percentile(took, 99)), 2)}


def sim_beside(api: Server, model: str, files: list[Path], rounds: int, seconds: float) -> dict[str, Any]:
    """Alone and beside videos without pause, in turns. A score is kept, so each judging has a parameterless twin: the
    same file with other bytes at its end, which no decoder reads."""
    alone, beside = [], []
    stop = threading.Event()
    number = iter(range(10**9))

    def judge_on(file: Path) -> None:
        while not stop.is_set():
            twin = file.with_suffix(f".{next(number)}.mp4")
            twin.write_bytes(file.read_bytes() + b"\0\0\0\x10free" + next(number).to_bytes(8, "big"))
            judge(api, model, [send(api, twin)])
            twin.unlink()

    for _ in range(rounds):
        alone.append(latencies(api, seconds))
        stop.clear()
        with ThreadPoolExecutor(2) as threads:
            judging = [threads.submit(judge_on, file) for file in files[:2]]
            time.sleep(1)
            beside.append(latencies(api, seconds))
            stop.set()
            for one in judging:
                one.result()
    found: dict[str, Any] = {
        name: {"alone": statistics.median(a[name] for a in alone), "beside": statistics.median(b[name] for b in beside)}
        for name in ("p50_ms", "p99_ms")
    }
    ratios = [b["p99_ms"] / a["p99_ms"] for a, b in zip(alone, beside, strict=True)]
    return {**found, "p99_ratio": round(statistics.median(ratios), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.videos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--videos", type=int, default=8, help="of each round (8)")
    parser.add_argument("--seconds", type=float, default=10, help="of /sim, alone and beside (10)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        author = Author(folder / "efs")
        network, config = small_c3d()
        save_network(folder / "c3d", network, config)
        save_network(folder / "r2plus1d", *small_network(**vars(CONFIG)))
        models = {"r2plus1d": folder / "r2plus1d", "c3d": folder / "c3d"}
        for name, source in models.items():
            author.publish(source, name, task=None, content_minimum=0.0)
        author.publish(minilm_folder(), "minilm")
        with server(folder / "api", MODEL_API_EFS_ROOT=author.layout.root, MODEL_API_SIM_MODEL="minilm") as api:
            api.wait_until_ready(within_s=300)
            found: dict[str, Any] = {}
            for number, (name, source) in enumerate(models.items()):
                rounds = [make_files(folder, 10 * number + round_, given.videos) for round_ in range(given.rounds)]
                judge(api, name, [send(api, file) for file in make_files(folder, 999 + number, 2)])
                found[name] = beside_a_loop(api, name, source, rounds)
                found[name]["sim"] = sim_beside(api, name, rounds[0], given.rounds, given.seconds)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
