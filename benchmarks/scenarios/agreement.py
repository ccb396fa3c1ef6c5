"""Every server gives the same scores: those of sentence-transformers in float32, within the precision's tolerance."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache

from benchmarks.bodies import KINDS, SIM, Body
from benchmarks.contenders import TOLERANCE
from benchmarks.environments import BUILD, ROOT, peer_python
from benchmarks.options import Options
from benchmarks.servers import Server
from benchmarks.weights import model_folder

NAME = "agreement"
TITLE = "Agreement"
RUNS_ON = None
BODIES_PER_KIND = 6


class Disagreement(Exception):
    """A server's scores are not those of the model: its speed means nothing."""


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    assert server.launch is not None
    worst = 0.0
    for body, expected in zip(_bodies(), _reference(), strict=True):
        got = server.ask(body)
        if len(got) != len(expected):
            raise Disagreement(f"{server.contender.name}: {len(got)} scores for {len(expected)} texts")
        worst = max(worst, *(abs(a - b) for a, b in zip(got, expected, strict=True)))
    limit = TOLERANCE[server.launch.precision]
    if not worst <= limit:
        raise Disagreement(f"{server.contender.name}: scores differ by {worst:.2g}, {limit:g} is allowed")
    yield "scores", {"worst_difference": worst, "tolerance": limit}


def _bodies() -> list[Body]:
    return [body for kind in KINDS.values() for body in kind.bodies()[:BODIES_PER_KIND]]


@cache
def _reference() -> list[list[float]]:
    """Scores by sentence-transformers in the naive baseline's environment, computed once a run."""
    path = BUILD / "bodies" / "agreement.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(SIM.encode(body) + b"\n" for body in _bodies()))
    script = ROOT / "benchmarks" / "peers" / "reference.py"
    command = [str(peer_python("naive")), str(script), str(model_folder()), str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
