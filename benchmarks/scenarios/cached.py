"""A cached /predict beside an empty Flask app on the same gunicorn settings: what we add to answering nothing."""

import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.bodies import KINDS
from benchmarks.contenders import Contender, Launch, Settings
from benchmarks.environments import BUILD, ROOT, own_python
from benchmarks.interleaved import in_turns, share, together
from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_least, show, show_percent, table
from benchmarks.servers import Server, ServerFailed, running
from benchmarks.weights import MODEL

NAME = "cached"
TITLE = "A cached answer"
RUNS_ON = ("ours",)
CONNECTIONS = 8
LIMIT_PERCENT = 70.0


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Both servers are up, and loaded in turns."""
    bodies = _bodies_file()
    with running(Contender("empty-flask", "an empty Flask app", _empty_flask)) as empty:
        asked = {name: (_url(it), bodies) for name, it in (("cached", server), ("empty", empty))}
        loads = in_turns(asked, CONNECTIONS, options.warm_up_s, options.short_s)
    _expect_cached(server, bodies)
    yield "empty", together(loads["empty"])
    yield "cached", {**together(loads["cached"]), "share": share(loads["cached"], loads["empty"])}


def _empty_flask(port: int, settings: Settings) -> Launch:
    # gunicorn's own worker class instead of ours: the comparison is with what anybody has.
    gunicorn = [str(own_python().with_name("gunicorn")), "--config", "gunicorn.conf.py", "--worker-class", "gthread"]
    environment = {"PORT": str(port), "PYTHONPATH": str(ROOT)}
    return Launch([*gunicorn, "benchmarks.empty_flask:application"], environment, "/healthz", "/healthz")


def _url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/predict"


def _bodies_file() -> Path:
    """One text a request; few distinct ones, all answered during the warm-up."""
    path = BUILD / "bodies" / "cached.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    targets = [body.target for body in KINDS["short"].bodies()[:16]]
    path.write_text("".join(json.dumps({"model": MODEL, "inputs": target}) + "\n" for target in targets))
    return path


def _expect_cached(server: Server, bodies: Path) -> None:
    """Raises ServerFailed if the figures aren't those of cached answers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    first = bodies.read_bytes().splitlines()[0]
    connection.request("POST", "/predict", first, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.headers.get("Age") is None:
        raise ServerFailed(f"the answer ({answer.status}) wasn't a cached one")


def table_of(results: Results) -> str:
    rates = [results.median("ours", NAME, case, "req_per_s") for case in ("cached", "empty")]
    if None in rates:
        return ""
    part = results.median("ours", NAME, "cached", "share")
    head = [f"req/s, {CONNECTIONS} connections", "cached /predict", "an empty Flask app", "share"]
    return table(head, [["one text of minilm", *map(show, rates), show_percent(part)]])


def targets(results: Results) -> Iterator[Outcome]:
    part = results.median("ours", NAME, "cached", "share")
    percent = None if part is None else 100 * part
    text = f"a cached /predict: at least {LIMIT_PERCENT:g} % of an empty Flask app's rate"
    yield at_least(text, percent, LIMIT_PERCENT, "%")
