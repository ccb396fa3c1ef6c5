"""The command's options."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from model_api_client._connection import DEFAULT_URL, package_version
from model_api_client.command.completion import SCRIPTS

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled", "expired")
EPILOG = """Tables on a terminal, JSON in a pipe. The server is --url, else MODEL_API_URL, else this machine; a key is
MODEL_API_KEY. Exit codes: 0 done, 1 the server refused, 2 wrong arguments, 3 no answer that could be read,
130 interrupted."""


def json_object(text: str) -> dict[str, Any]:
    """For argparse, which names it in its complaint."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _common(default: Any) -> argparse.ArgumentParser:
    """Options that may stand before or after a command: there, what isn't given mustn't hide what was given before."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", default=default, help=f"of the server (MODEL_API_URL, else {DEFAULT_URL})")
    form = common.add_mutually_exclusive_group()
    for name, text in (("json", "JSON on a terminal too"), ("table", "a table in a pipe too")):
        form.add_argument(f"--{name}", action="store_true", default=default or False, help=text)
    return common


def _asking(name: str, commands: Any, common: argparse.ArgumentParser, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, parents=[common], help=text, description=text)
    parser.add_argument("--parameters", type=json_object, metavar="JSON", help="of the model's task, as a JSON object")
    return parser


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="model-api",
        description="Ask a Model API.",
        epilog=EPILOG,
        parents=[_common(None)],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"model-api {package_version()}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    common = _common(argparse.SUPPRESS)

    sim = _asking("sim", commands, common, "Compare texts with a target.")
    sim.add_argument("target", metavar="TARGET")
    sim.add_argument("texts", nargs="*", metavar="TEXT", help="default: the lines of standard input")
    sim.add_argument("--model", metavar="MODEL", help="default: the server's")

    predict = _asking("predict", commands, common, "Ask a model about inputs, or about a column of a whole file.")
    predict.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="default: the lines of standard input, as they come"
    )
    predict.add_argument("--model", required=True, metavar="MODEL", help="name, name@version or name@canary")
    predict.add_argument("--file", type=Path, metavar="FILE", help="a .csv with a header, or .jsonl, as one job")
    predict.add_argument("--column", metavar="COLUMN", help="of that file, with the inputs")
    predict.add_argument("--out", type=Path, metavar="FILE", help="default: beside FILE, as NAME.predictions.EXT")

    models = commands.add_parser(
        "models", parents=[common], help="What is published.", description="What is published."
    )
    models.add_argument("name", nargs="?", metavar="NAME", help="one model, with its versions")
    _jobs(commands, common)

    text = "Completion for a shell: source <(model-api completion bash)"
    completion = commands.add_parser("completion", help="Completion for a shell.", description=text)
    completion.add_argument("shell", choices=sorted(SCRIPTS))
    return top


def _jobs(commands: Any, common: argparse.ArgumentParser) -> None:
    text = "Jobs, newest first; or one of them."
    jobs = commands.add_parser("jobs", parents=[common], help=text, description=text)
    jobs.add_argument("--status", choices=STATUSES)
    jobs.add_argument("--kind", metavar="KIND", help="predict, sim, score, file, ...")
    jobs.add_argument("--limit", type=positive, default=20, metavar="N", help="(20)")
    actions = jobs.add_subparsers(dest="action", metavar="ACTION")
    for name, about in (
        ("show", "A job as it is."),
        ("wait", "Wait until a job is over."),
        ("result", "What a job gave, once it is over."),
        ("cancel", "Cancel a job, running or not."),
        ("retry", "Try a job again that failed or was cancelled."),
    ):
        action = actions.add_parser(name, parents=[common], help=about, description=about)
        action.add_argument("job", metavar="ID", help="a job's id, or so much of its beginning that no other has it")
        if name in ("wait", "result"):
            action.add_argument("--timeout", type=float, metavar="SECONDS", help="default: as long as it takes")
        if name == "result":
            action.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
