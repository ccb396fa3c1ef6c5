"""`python -m model_api.jobs.files FILE --model M --column C`: a whole file through a model.

Writes FILE with two more columns, `prediction` and `error`. A run that was stopped goes on where it was when started
again in the same way. Exit codes: 0 done, 1 some rows have errors, 2 wrong arguments or file, 3 given up,
130 interrupted.
"""

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from model_api.errors import SettingsError
from model_api.jobs.files.predictors import Asker, Hopeless, ServerAsker, ServiceAsker, TryLater
from model_api.jobs.files.run import Job, run
from model_api.jobs.files.tables import BadTable, open_reader
from model_api.serving.calls import ModelService
from model_api.serving.start import Unobserved, start_service
from model_api.settings import Settings

START_TIMEOUT_S = 600.0
LOOK_S = 5.0  # long enough for a look at the store, even a slow one


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a .csv with a header, or .jsonl")
    parser.add_argument("--model", required=True, metavar="M", help="name, name@version or name@canary")
    parser.add_argument("--column", required=True, metavar="C", help="the column (or key) with the input")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: beside FILE, as NAME.predictions.EXT")
    parser.add_argument("--url", help="a running server; default: start the model in this process")
    parser.add_argument(
        "--parameters", type=json_object, default={}, metavar="JSON", help="of the model's task, as a JSON object"
    )
    parser.add_argument("--rows-per-request", type=positive, default=32, metavar="N", help="(32)")
    parser.add_argument("--requests-at-once", type=positive, default=4, metavar="N", help="(4)")
    parsed = parser.parse_args(arguments)
    try:
        source: Path = parsed.file
        job = Job(
            source,
            parsed.out or source.with_name(f"{source.stem}.predictions{source.suffix}"),
            parsed.column,
            {"model": parsed.model, "parameters": parsed.parameters},
            parsed.rows_per_request,
            parsed.requests_at_once,
        )
        if job.target.resolve() == source.resolve():
            raise ValueError("--out must not be FILE itself")
        with source.open("rb") as file:
            open_reader(source, file, job.column)  # whether it has the column is known before a model is loaded
        if not job.target.parent.is_dir():
            raise ValueError(f"there is no folder {job.target.parent}")
        asker = _asker(parsed.url, parsed.model, parsed.parameters)
    except (ValueError, OSError) as error:
        print(f"predict: {error}", file=sys.stderr)
        return 2
    except BadTable as error:
        print(f"predict: {parsed.file}: {error}", file=sys.stderr)
        return 2
    except SettingsError as error:
        print(f"predict: {error}", file=sys.stderr)
        return 2
    except Hopeless as error:
        print(f"predict: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    bar = _Bar()
    try:
        done = run(job, asker, bar.show, threading.Event())
    except BadTable as error:
        print(f"\npredict: {source}: {error}", file=sys.stderr)
        return 2
    except (Hopeless, OSError) as error:
        print(f"\npredict: {error}{bar.goes_on()}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print(f"\npredict: interrupted{bar.goes_on()}", file=sys.stderr)
        return 130
    finally:
        asker.close()
    print(f"\npredict: {done.rows} rows, {done.errors} with an error, in {job.target}", file=sys.stderr)
    return 1 if done.errors else 0


def json_object(text: str) -> dict[str, Any]:
    """For argparse, which names it in its complaint."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def positive(text: str) -> int:
    """For argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _asker(url: str | None, model: str, parameters: dict[str, Any]) -> Asker:
    """Raises Hopeless."""
    if url is not None:
        server = ServerAsker(url, model, parameters)
        try:
            server.ask([])
        except TryLater as error:
            print(f"predict: {error}; trying for some minutes", file=sys.stderr)
        except Hopeless:
            server.close()
            raise
        return server
    settings = Settings.from_env().model_copy(update={"models": (model.partition("@")[0],), "cache": "off"})
    service = start_service(settings, Unobserved())
    print(f"predict: loading {model} from {settings.efs_root}", file=sys.stderr)
    try:
        _wait_until_ready(service, model)
    except BaseException:
        service.stop()
        raise
    return ServiceAsker(service, model, parameters)


def _wait_until_ready(service: ModelService, model: str) -> None:
    """Raises Hopeless: at once where waiting can't help, since the store is no store or the model isn't in it."""
    began = time.monotonic()
    while not (state := service.readiness()).ready:
        waited_s, mount = time.monotonic() - began, service.mount()
        if waited_s > LOOK_S and not mount.mounted:
            raise Hopeless(f"the store can't be read: {mount.detail}")
        if waited_s > LOOK_S and set(state.models.values()) == {"not published"}:
            raise Hopeless(f"{model} is not published there; scripts/models lists what is")
        if waited_s > START_TIMEOUT_S:
            raise Hopeless(f"{model} isn't ready after {START_TIMEOUT_S:.0f} s: {dict(state.models)}")
        time.sleep(0.1)


class _Bar:
    """One line on stderr: share of the file, rows, rows per second, time left. Redrawn at most ten times a second."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first_rows: int | None = None
        self._first_share = 0.0
        self._drawn = 0.0

    def goes_on(self) -> str:
        """What to add to the news that the run ended early."""
        return "" if self._first_rows is None else "; the same command goes on from here"

    def show(self, rows: int, n_bytes: int, total_bytes: int) -> None:
        now, share = time.monotonic(), n_bytes / max(1, total_bytes)
        if self._first_rows is None:
            self._first_rows, self._first_share, self._began = rows, share, now
        if now - self._drawn < 0.1 and share < 1:
            return
        self._drawn = now
        elapsed = max(1e-3, now - self._began)
        rate = (rows - self._first_rows) / elapsed
        left_s = (1 - share) * elapsed / max(1e-9, share - self._first_share)
        bar = "#" * int(share * 30)
        left = f"{left_s:.0f} s left" if share < 1 and rate else ""
        print(f"\r[{bar:30}] {share:4.0%} {rows} rows, {rate:.0f}/s {left:14}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
