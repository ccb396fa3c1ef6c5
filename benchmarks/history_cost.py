"""What keeping predictions costs /predict: two servers of the demo's minilm, one with MODEL_API_LOG_PREDICTIONS=full,
the other without, loaded in turns.

    python -m benchmarks.history_cost [SECONDS]     # of each server at each number of connections; default 24

Told are the ratios of the medians over the turns.
"""

import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import wrk
from benchmarks.interleaved import in_turns
from tests.rigs.author import Author
from tests.rigs.models import minilm_folder
from tests.rigs.server import server

CONNECTIONS = (4, 16)
WARM_UP_S = 3.0
TEXTS = ("How do I reset my password?", "I forgot my password", "The weather is nice today")


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as running:
        folder = Path(made)
        (folder / "efs").mkdir()
        Author(folder / "efs").publish(minilm_folder(), "minilm", "1")
        bodies = folder / "bodies"
        lines = [json.dumps({"model": "minilm", "inputs": [f"{text} ({i})" for text in TEXTS]}) for i in range(500)]
        bodies.write_text("\n".join(lines) + "\n")
        urls: dict[str, tuple[str, Path]] = {}
        for name in ("off", "full"):
            settings = {"MODEL_API_EFS_ROOT": folder / "efs", "MODEL_API_LOG_PREDICTIONS": name}
            api = running.enter_context(server(folder / name, **settings))
            api.wait_until_ready(120)
            urls[name] = (f"{api.url}/predict", bodies)
        for connections in CONNECTIONS:
            loads = in_turns(urls, connections, WARM_UP_S, seconds)
            print(f"{connections} connections")
            for name, told in loads.items():
                p50, p99 = (statistics.median(getattr(load, field) for load in told) for field in ("p50_ms", "p99_ms"))
                errors = sum(load.errors for load in told)
                rate = statistics.median(load.per_s for load in told)
                print(f"  {name:5} {rate:7.1f}/s  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  errors {errors}")
            for field in ("per_s", "p50_ms", "p99_ms"):
                pairs = zip(loads["full"], loads["off"], strict=True)
                ratio = statistics.median(getattr(a, field) / getattr(b, field) for a, b in pairs)
                print(f"  full / off, {field}: {ratio:.3f}")


if __name__ == "__main__":
    try:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 24.0)
    except wrk.LoadFailed as error:
        sys.exit(f"history_cost: {error}")
