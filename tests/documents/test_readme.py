"""What the README says, done letter by letter."""

import json
import re
import subprocess

import pytest

from tests.rigs.project import ROOT
from tests.rigs.server import Server

pytestmark = pytest.mark.integration
README = (ROOT / "README.md").read_text()


def curl(command: str, api: Server) -> str:
    assert "http://127.0.0.1:8000" in command
    moved = command.replace("http://127.0.0.1:8000", api.url)
    return subprocess.run(["bash", "-c", f"{moved} --silent --fail"], capture_output=True, text=True, check=True).stdout


def test_the_curls_answer_as_shown(minilm_api: Server) -> None:
    blocks = re.findall(r"```(json)?\n(.*?)```", README, re.DOTALL)
    commands = [text.strip() for kind, text in blocks if text.startswith("curl ")]
    answers = [json.loads(text) for kind, text in blocks if kind == "json"]
    assert len(commands) == 2
    (shown,) = answers
    got = json.loads(curl(commands[0], minilm_api))
    assert got["context"].pop("sims") == pytest.approx(shown["context"].pop("sims"), abs=5e-3)
    assert got == shown
    predicted = json.loads(curl(commands[1], minilm_api))
    assert predicted.keys() == {"model", "version", "digest", "task", "predictions", "usage"}


def test_the_serve_script_prints_the_same_curl() -> None:
    script = (ROOT / "scripts" / "serve").read_text()
    command = next(line for line in README.splitlines() if line.startswith("curl "))
    assert command.replace("127.0.0.1:8000", "$host:$PORT") in script


def test_every_route_is_listed(minilm_api: Server) -> None:
    section = README.split("## HTTP")[1].split("## Publishing")[0]
    listed = set(re.findall(r"`(?:GET |POST |DELETE )?(/[a-z_./<>]*)`", section))
    served = {re.sub(r"\{(\w+)\}", r"<\1>", path) for path in minilm_api.get("/openapi.json").json()["paths"]}
    assert served - {"/problems/<slug>"} <= listed


def test_the_files_on_a_requests_way_exist() -> None:
    section = README.split("## A request's way")[1].split("## Settings")[0]
    root = ROOT
    names = set(re.findall(r"[\w/.]+\.py", section))
    assert len(names) > 10
    missing = [n for n in names if not any((base / n).exists() for base in (root, root / "model_api"))]
    assert not missing
