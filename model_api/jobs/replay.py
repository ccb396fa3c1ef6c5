"""`python -m model_api.jobs.replay MODEL@CANDIDATE`: inputs that were predicted lately, through another version.

Every input goes to the version that serves and to the candidate, in turn, by a running server that keeps what it
predicts (MODEL_API_LOG_PREDICTIONS=full) and has both loaded: publish the candidate with --canary 0.01. Told are how
often the two agree, how far scores move, how long both take, and, where references are known, how often each is right.
Nothing is promoted. Exit codes: 0 done, 1 below --min-agreement, or some inputs were refused, 2 wrong arguments, 3 the
server can't be asked, or has nothing to replay, 130 interrupted.
"""

import argparse
import functools
import json
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from tqdm import tqdm

from model_api.jobs.files.predictors import Hopeless
from model_api.jobs.files.remote import ask
from model_api.jobs.replay_report import Pair, report, table
from model_api.jobs.replay_report import timed as timed_answer

PAGE = 200
SOURCE = "replay"  # of what this asks itself, which is not replayed again
HEADERS = {"X-Source": SOURCE, "Cache-Control": "no-cache"}


def main(arguments: list[str] | None = None) -> int:
    parsed = _parser().parse_args(arguments)
    name, _, wanted = parsed.model.partition("@")
    if not wanted:
        print("replay: say which version: MODEL@canary, MODEL@VERSION, or the beginning of a digest", file=sys.stderr)
        return 2
    base = parsed.url.rstrip("/") + "/"
    try:
        served = ask("GET", f"{base}models/{name}")
        before = f"{name}@{parsed.against or served.get('version')}"
        after = f"{name}@{version_of(served, wanted)}"
        if before == after:
            print(f"replay: {after} is what serves: there is nothing to compare", file=sys.stderr)
            return 2
        rows = logged(base, name, parsed.last, parsed.source)
        if not rows:
            raise Hopeless(f"no input of {name} is kept: see MODEL_API_LOG_PREDICTIONS=full")
        pairs = [_asked(base, row, before, after, parsed.parameters) for row in tqdm(rows, unit="input", disable=None)]
    except (Hopeless, OSError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    told = report(before, after, pairs)
    print(json.dumps(told, indent=1) if parsed.json else table(told))
    agreement = told["agreement"]
    return 1 if told["refused"] or (agreement is not None and agreement < parsed.min_agreement) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL@CANDIDATE", help="`canary`, a version, or the beginning of a digest")
    parser.add_argument("--last", type=_count, default=1000, metavar="N", help="so many inputs (%(default)s)")
    parser.add_argument("--source", help="only those that came from there")
    parser.add_argument("--against", metavar="VERSION", help="default: the version that serves")
    parser.add_argument("--parameters", type=_object, default={}, metavar="JSON", help="of the task, for both")
    parser.add_argument("--min-agreement", type=float, default=0.0, metavar="SHARE", help="exit with 1 below this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8000", help="the server (%(default)s), asked with the key in MODEL_API_KEY"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError("must be 1 to 100,000")
    return int(text)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return found


def version_of(served: Mapping[str, Any], wanted: str) -> str:
    """The loaded version that is meant. Raises Hopeless."""
    if wanted == "canary":
        if not served.get("canary"):
            raise Hopeless(f"{served['name']} has no canary: publish one with --canary 0.01")
        return str(served["canary"]["version"])
    versions = {str(row["version"]): str(row.get("digest") or "") for row in served.get("versions", ())}
    if wanted in versions:
        return wanted
    found = [version for version, digest in versions.items() if len(wanted) >= 6 and digest.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    raise Hopeless(f"no version {wanted!r} of {served['name']}; there are {', '.join(sorted(versions)) or 'none'}")


def logged(base: str, name: str, last: int, source: str | None) -> list[dict[str, Any]]:
    """The latest predictions whose input was kept, newest first. Raises Hopeless, OSError."""
    found: list[dict[str, Any]] = []
    asked = {"model": name, "limit": PAGE, **({"source": source} if source else {})}
    while True:
        page = ask("GET", f"{base}history?{urlencode(asked)}")
        found += [row for row in page["predictions"] if row["input"] is not None and row["source"] != SOURCE]
        if page["next"] is None or len(found) >= last:
            return found[:last]
        asked["after"] = page["next"]


def _asked(base: str, row: Mapping[str, Any], before: str, after: str, parameters: Mapping[str, Any]) -> Pair:
    """Both versions' answers to one input. Who is first changes, so that neither gains by it."""
    addresses = (before, after) if int(row["id"]) % 2 else (after, before)
    answers = {
        address: timed_answer(functools.partial(_ask, base, row["input"], address, parameters)) for address in addresses
    }
    return Pair(answers[before], answers[after], row["reference"])


def _ask(base: str, given: Any, address: str, parameters: Mapping[str, Any]) -> Any:
    """Raises Hopeless, OSError."""
    body: dict[str, Any] = {"model": address, "parameters": dict(parameters)}
    if isinstance(given, dict) and given.keys() == {"target", "texts"}:
        return {"sims": ask("POST", f"{base}sim", {**body, **given}, HEADERS)["context"]["sims"]}
    return ask("POST", f"{base}predict", {**body, "inputs": [given]}, HEADERS)["predictions"][0]


if __name__ == "__main__":
    sys.exit(main())
