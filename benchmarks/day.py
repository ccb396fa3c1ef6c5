"""A day of mixed traffic in ten minutes: `python -m benchmarks.day [--minutes 10]`.

Prints the memory of the web process as it goes, and its slope over the second half.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.rigs.author import Author
from tests.rigs.bystander import resident_bytes
from tests.rigs.day import day
from tests.rigs.models import tiny_model
from tests.rigs.server import server

EVERY_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "efs").mkdir()
        Author(folder / "efs").publish(tiny_model(folder / "tiny", seed=1), "tiny")
        settings = {"MODEL_API_EFS_ROOT": folder / "efs", "MODEL_API_CACHE": "memory", "MODEL_API_LOG_LEVEL": "WARNING"}
        with server(folder / "api", **settings) as api:
            api.wait_until_ready()
            (web,) = api.pids_by_role()["web"]
            rows: list[tuple[float, int, int]] = []
            with day(api) as seen:
                began = time.monotonic()
                while time.monotonic() < began + options.minutes * 60:
                    time.sleep(EVERY_S)
                    rows.append((time.monotonic() - began, seen.statuses.total(), resident_bytes(web)))
                    print(f"{rows[-1][0]:6.0f} s {rows[-1][1]:8} requests {rows[-1][2] / 2**20:7.1f} MB", flush=True)
            print(f"answers: {dict(sorted(seen.statuses.items()))}")
    half = np.array(rows[len(rows) // 2 :])
    slope = float(np.polyfit(half[:, 1], half[:, 2], 1)[0])
    print(f"second half: {slope * 1000 / 2**10:+.1f} kB per 1,000 requests")


if __name__ == "__main__":
    main()
