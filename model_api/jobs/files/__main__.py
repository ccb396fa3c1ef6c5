"""`python -m model_api.jobs.files FILE --model M --column C`: a whole file through a model.

Writes FILE with two more columns, `prediction` and `error`. A run that was stopped goes on where it was when started
again in the same way. Exit codes: 0 done, 1 some rows have errors, 2 wrong arguments or file, 3 given up,
130 interrupted.
"""

import argparse
import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model_api.errors import SettingsError
from model_api.jobs.files.predictors import Asker, Hopeless, ServerAsker, ServiceAsker, TryLater
from model_api.jobs.files.remote import run_as_job
from model_api.jobs.files.run import Job, run
from model_api.jobs.files.tables import BadTable, form_of, open_reader
from model_api.serving.calls import ModelService
from model_api.serving.start import Unobserved, start_service
from model_api.settings import Settings

START_TIMEOUT_S = 600.0
LOOK_S = 5.0  # long enough for a look at the store, even a slow one


def main(arguments: list[str] | None = None) -> int:
    parsed = _parser().parse_args(arguments)
    source: Path = parsed.file
    try:
        job = _job(parsed)
        if parsed.job and parsed.url is None:
            raise ValueError("--job needs the --url of a running server")
        asker = None if parsed.job else _asker(parsed.url, parsed.model, parsed.parameters)
    except BadTable as error:
        return _complain(f"{source}: {error}", 2)
    except Hopeless as error:
        return _complain(str(error), 3)
    except (SettingsError, ValueError, OSError) as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt:
        return 130
    with _Bar(source) as bar:
        try:
            if asker is None:
                done = run_as_job(parsed.url, job, parsed.model, parsed.parameters, bar.show)
            else:
                done = run(job, asker, bar.show, threading.Event())
        except BadTable as error:
            return _complain(f"{source}: {error}", 2)
        except (Hopeless, OSError) as error:
            return _complain(f"{error}{bar.goes_on()}", 3)
        except KeyboardInterrupt:
            return _complain(f"interrupted{bar.goes_on()}", 130)
        finally:
            if asker is not None:
                asker.close()
    print(f"predict: {done.rows} rows, {done.errors} with an error, in {job.target}", file=sys.stderr)
    return 1 if done.errors else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a .csv with a header, or .jsonl")
    parser.add_argument("--model", required=True, metavar="M", help="name, name@version or name@canary")
    parser.add_argument("--column", required=True, metavar="C", help="the column (or key) with the input")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: beside FILE, as NAME.predictions.EXT")
    parser.add_argument(
        "--url", help="a running server, asked with the key in MODEL_API_KEY; default: start the model here"
    )
    parser.add_argument(
        "--job", action="store_true", help="send the whole file to that server, as a job that goes on without us"
    )
    parser.add_argument(
        "--parameters", type=json_object, default={}, metavar="JSON", help="of the model's task, as a JSON object"
    )
    parser.add_argument("--rows-per-request", type=positive, default=32, metavar="N", help="(32)")
    parser.add_argument("--requests-at-once", type=positive, default=4, metavar="N", help="(4)")
    return parser


def _job(parsed: argparse.Namespace) -> Job:
    """What is asked for, checked before a model is loaded. Raises ValueError, OSError or BadTable."""
    source: Path = parsed.file
    job = Job(
        source,
        parsed.out or source.with_name(f"{source.stem}.predictions{source.suffix}"),
        form_of(source),
        parsed.column,
        {"model": parsed.model, "parameters": parsed.parameters},
        parsed.rows_per_request,
        parsed.requests_at_once,
    )
    if job.target.resolve() == source.resolve():
        raise ValueError("--out must not be FILE itself")
    with source.open("rb") as file:
        open_reader(job.form, file, job.column)
    if not job.target.parent.is_dir():
        raise ValueError(f"there is no folder {job.target.parent}")
    return job


def _complain(message: str, code: int) -> int:
    print(f"predict: {message}", file=sys.stderr)
    return code


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
            if isinstance(error.__cause__, ConnectionRefusedError | socket.gaierror):
                server.close()
                raise Hopeless(f"nothing answers at {url}: is that the server's address, and does it run?") from error
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
        verdicts = list(state.models.values())
        if waited_s > LOOK_S and verdicts and all(verdict.startswith("not published") for verdict in verdicts):
            raise Hopeless(f"{model} is {verdicts[0]} there; scripts/models lists what is")
        if waited_s > LOOK_S and verdicts == ["refused"]:
            raise Hopeless(f"{model} can't be served: {service.models()[0]['refused']}")
        if waited_s > START_TIMEOUT_S:
            raise Hopeless(f"{model} isn't ready after {START_TIMEOUT_S:.0f} s: {dict(state.models)}")
        time.sleep(0.1)


class _Bar:
    """Progress on stderr: share of the file, rows, rate, time left. A context manager."""

    def __init__(self, source: Path) -> None:
        self._name = source.name
        self._bar: Any = None

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def goes_on(self) -> str:
        """What to add to the news that the run ended early."""
        return "" if self._bar is None else "; the same command goes on from here"

    def show(self, rows: int, n_bytes: int, total_bytes: int) -> None:
        if self._bar is None:  # a run that goes on begins where it was
            self._bar = tqdm(total=total_bytes, initial=n_bytes, unit="B", unit_scale=True, desc=self._name)
        self._bar.set_postfix_str(f"{rows} rows", refresh=False)
        self._bar.update(n_bytes - self._bar.n)


if __name__ == "__main__":
    sys.exit(main())
