"""`model-api sim|predict|models|jobs`: the API from a shell. `--help` tells all."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

from model_api_client.client import Client
from model_api_client.command import completion
from model_api_client.command.arguments import parser
from model_api_client.command.output import Bar, Output, shown
from model_api_client.errors import CallerProblem, ModelApiError, Problem, UnknownJob
from model_api_client.results import Job

ID_CHARS = 64
SHOWN_ID_CHARS = 12
LISTED_JOBS = 1000


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if given[:1] == [completion.LINE]:
            print("\n".join(completion.candidates(parser(), " ".join(given[1:]))))
            return 0
        return _run(parser().parse_args(given))
    except Problem as error:
        return _complain(error, 1)
    except ModelApiError as error:
        return _complain(error, 3)
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            sys.stderr.close()  # who read us has what it wanted
            return 0
        return _complain(error, 2)
    except KeyboardInterrupt:
        return 130


def _complain(error: Exception, code: int) -> int:
    """One line; the pointer and the request's id where there are any."""
    places = [place.pointer for place in getattr(error, "places", ()) if place.pointer]
    where = f" ({', '.join(places)})" if places else ""
    request_id = getattr(error, "request_id", None)
    under = f" [request {request_id}]" if request_id and not isinstance(error, CallerProblem) else ""
    print(f"model-api: {shown(str(error))}{where}{under}", file=sys.stderr)
    return code


def _run(parsed: argparse.Namespace) -> int:
    if parsed.command == "completion":
        print(completion.SCRIPTS[parsed.shell], end="")
        return 0
    out = Output(parsed.json or not (parsed.table or sys.stdout.isatty()))
    with Client(parsed.url) as client:
        return _COMMANDS[parsed.command](client, parsed, out)


def _sim(client: Client, parsed: argparse.Namespace, out: Output) -> int:
    texts = parsed.texts or list(_lines())
    found = client.sim(parsed.target, texts, parsed.model, parsed.parameters)
    document = {**_weights(found), "target": found.target, "texts": found.texts, "sims": found.sims}
    out.rows(("similarity", "text"), [(sim, text) for text, sim in found.ranked()], document)
    return 0


def _predict(client: Client, parsed: argparse.Namespace, out: Output) -> int:
    if (parsed.file is None) != (parsed.column is None):
        raise ValueError("--file and --column belong together")
    if parsed.file is not None:
        return _predict_file(client, parsed, out)
    if parsed.out is not None:
        raise ValueError("--out is for --file")
    if not parsed.inputs:
        return _predict_lines(client, parsed, out)
    found = client.predict(parsed.model, parsed.inputs, parsed.parameters)
    document = {**_weights(found), "task": found.task, "predictions": found.predictions}
    out.rows(("input", "prediction"), list(zip(parsed.inputs, found)), document)
    return 0


def _predict_lines(client: Client, parsed: argparse.Namespace, out: Output) -> int:
    """Each line of standard input as it comes; one that is refused has an error, and the others don't suffer."""
    refused = 0
    for index, found in enumerate(client.map(_lines(), parsed.model, parsed.parameters, on_error="return")):
        if isinstance(found, Problem):
            refused += 1
            out.line(index, {"index": index, "error": found.detail}, ["error:", found.detail])
        else:
            out.line(index, {"index": index, "prediction": found}, [found])
    return 1 if refused else 0


def _predict_file(client: Client, parsed: argparse.Namespace, out: Output) -> int:
    source = parsed.file
    target = parsed.out or source.with_name(f"{source.stem}.predictions{source.suffix}")
    if target.resolve() == source.resolve():
        raise ValueError("--out must not be FILE itself")
    sending, working = Bar("sending"), Bar("predicting")

    def work(job: Job) -> None:
        sending.close()
        working.show(*_progress(job))

    def send(sent: int, total: int) -> None:
        sending.show(sent, total, "bytes")

    try:
        done = client.predict_file(
            source,
            parsed.model,
            parsed.column,
            target,
            parameters=parsed.parameters,
            sending=send,
            progress=work,
        )
    finally:
        sending.close()
        working.close()
    told = {"job": done.id, "rows": done.progress_done, "errors": done.progress_errors, "out": str(target)}
    out.fields({**told, "model": done.model, "version": done.version, "digest": done.digest})
    return 1 if done.progress_errors else 0


def _models(client: Client, parsed: argparse.Namespace, out: Output) -> int:
    if parsed.name:
        out.fields(client.model(parsed.name).document)
        return 0
    found = client.models()
    rows = [
        (one.name, one.task, one.version, one.state, one.precision, one.canary, "; ".join(one.refused.values()) or None)
        for one in found
    ]
    names = ("name", "task", "version", "state", "precision", "canary", "refused")
    out.rows(names, rows, {"models": [one.document for one in found]})
    return 0


def _jobs(client: Client, parsed: argparse.Namespace, out: Output) -> int:
    if parsed.action is None:
        found = list(islice(client.jobs.list(status=parsed.status, kind=parsed.kind), parsed.limit))
        rows = [
            (job.id[:SHOWN_ID_CHARS], job.kind, job.status, _share(job), job.model, job.created, _why(job))
            for job in found
        ]
        names = ("id", "kind", "status", "progress", "model", "created", "error")
        out.rows(names, rows, {"jobs": [job.document for job in found]})
        return 0
    job_id = _whole_id(client, parsed.job)
    if parsed.action == "result":
        return _job_result(client, job_id, parsed, out)
    if parsed.action == "wait":
        job = _waited(client, job_id, parsed.timeout)
    else:
        job = {"show": client.jobs.get, "cancel": client.jobs.cancel, "retry": client.jobs.retry}[parsed.action](job_id)
    out.fields(job.document)
    return 1 if parsed.action == "wait" and job.status != "succeeded" else 0


def _job_result(client: Client, job_id: str, parsed: argparse.Namespace, out: Output) -> int:
    done = _waited(client, job_id, parsed.timeout)
    if parsed.out is not None and done.status == "succeeded":
        client.jobs.download(done, parsed.out)
        out.fields({"job": done.id, "out": str(parsed.out)})
        return 0
    found = client.jobs.result(done)
    if isinstance(found, bytes):
        sys.stdout.flush()
        sys.stdout.buffer.write(found)
    else:
        document = vars(found) if hasattr(found, "__dict__") else found
        out.fields(document if isinstance(document, dict) else {"result": document})
    return 0


def _waited(client: Client, job_id: str, timeout_s: float | None) -> Job:
    bar = Bar("working")
    try:
        return client.jobs.wait(job_id, timeout_s, progress=lambda job: bar.show(*_progress(job)))
    finally:
        bar.close()


def _whole_id(client: Client, given: str) -> str:
    """Of a beginning, as lists on a terminal show it."""
    if len(given) >= ID_CHARS:
        return given
    newest = islice(client.jobs.list(page_size=200), LISTED_JOBS)
    found = [job.id for job in newest if job.id.startswith(given)]
    if len(found) > 1:
        raise ValueError(f"{len(found)} jobs begin with {given!r}")
    if not found:
        raise UnknownJob(404, {"type": "/problems/unknown-job", "detail": f"no job begins with {given[:ID_CHARS]!r}"})
    return found[0]


def _weights(found: Any) -> dict[str, Any]:
    return {"model": found.model, "version": found.version, "digest": found.digest}


def _progress(job: Job) -> tuple[int, int, str]:
    return job.progress_done, job.progress_total, job.progress_unit


def _share(job: Job) -> str:
    return f"{job.progress_done}/{job.progress_total} {job.progress_unit}"


def _why(job: Job) -> str | None:
    return None if job.error is None else str(job.error.get("detail"))


def _lines() -> Iterator[str]:
    if sys.stdin.isatty():
        print("model-api: reading lines from the terminal; Ctrl-D ends them", file=sys.stderr)
    for line in sys.stdin:
        yield line.rstrip("\r\n")


_COMMANDS = {"sim": _sim, "predict": _predict, "models": _models, "jobs": _jobs}

if __name__ == "__main__":
    sys.exit(main())
