"""Health, answers and memory while one caller attacks: `python -m benchmarks.attacks [NAME ...]`.

Prints a table in Markdown, a row per attack of tests/rigs/attacks.py. `--code` is another checkout of this project, to
compare with. A server that doesn't survive an attack is started anew for the next.
"""

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.environments import ROOT
from tests.rigs.attacks import ATTACKS, attack
from tests.rigs.author import Author
from tests.rigs.bystander import Seen, at, bystander
from tests.rigs.models import tiny_model
from tests.rigs.server import Server

HEAD = (
    "| attack | health p50 ms | p99 | longest | unanswered | honest: 200 | other | p99 ms | web process MB |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def row(name: str, seen: Seen, restarted: bool) -> str:
    health = (seen.health_at(0.5), seen.health_at(0.99), seen.health_at(1.0))
    others = ", ".join(f"{n} x {status or 'none'}" for status, n in sorted(seen.answers.items()) if status != 200)
    figures = [*(f"{s * 1e3:.0f}" for s in health), str(len(seen.unhealthy)), str(seen.answers[200]), others or "0"]
    ended = ", ended" if restarted else ""
    return f"| {name} | {' | '.join(figures)} | {at(seen.answer_s, 0.99) * 1e3:.0f} | {seen.peak_bytes >> 20}{ended} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ATTACKS))
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--code", type=Path, default=ROOT)
    options = parser.parse_args()
    print(HEAD)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "efs").mkdir()
        Author(folder / "efs").publish(tiny_model(folder / "tiny", seed=1), "tiny")
        settings = {"MODEL_API_EFS_ROOT": folder / "efs", "MODEL_API_CACHE": "memory", "MODEL_API_LOG_LEVEL": "WARNING"}
        for name in options.names or ["none", *ATTACKS]:
            with closing(Server(folder / name, settings, options.code)) as api:
                api.start()
                api.wait_until_ready()
                web = api.pids_by_role()["web"]
                if name == "none":
                    with bystander(api) as seen:
                        time.sleep(options.seconds)
                else:
                    with attack(name, api.port), bystander(api) as seen:
                        time.sleep(options.seconds)
                print(row(name, seen, api.pids_by_role()["web"] != web), flush=True)


if __name__ == "__main__":
    main()
