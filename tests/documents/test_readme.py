"""What the README says, done letter by letter."""

import ast
import json
import re
import subprocess

import pytest

from model_api.web.protocols.spoken import BLUEPRINTS
from tests.rigs.project import ROOT
from tests.rigs.server import Server

pytestmark = pytest.mark.integration
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(json)?\n(.*?)```", README, re.DOTALL)
COMMANDS = [text.strip() for kind, text in BLOCKS if not kind]


def run(command: str, api: Server) -> str:
    assert "http://127.0.0.1:8000" in command
    moved = command.replace("http://127.0.0.1:8000", api.url)
    return subprocess.run(["bash", "-c", moved], capture_output=True, text=True, check=True).stdout


def decimals(number: str) -> int:
    return len(number.partition(".")[2])


def test_the_curl_answers_as_shown_at_the_digits_shown(minilm_api: Server) -> None:
    (curl,) = [command for command in COMMANDS if command.startswith("curl ")]
    ((_, text),) = [block for block in BLOCKS if block[0]]
    shown = json.loads(text, parse_float=str)
    got = json.loads(run(f"{curl} --silent --fail", minilm_api))
    sims = [
        f"{sim:.{decimals(was)}f}" for sim, was in zip(got["context"]["sims"], shown["context"]["sims"], strict=True)
    ]
    assert sims == shown["context"]["sims"]
    got["context"]["sims"] = shown["context"]["sims"]
    assert got == shown


def test_the_python_line_prints_an_embedding(minilm_api: Server) -> None:
    (python,) = [command for command in COMMANDS if command.startswith("python3 ")]
    vector = ast.literal_eval(run(python, minilm_api))
    assert len(vector) == 3
    assert all(isinstance(value, float) for value in vector)


def test_the_serve_script_prints_the_same_curl() -> None:
    script = (ROOT / "scripts" / "serve").read_text()
    (curl,) = [command for command in COMMANDS if command.startswith("curl ")]
    assert curl in script


def test_every_route_is_listed(minilm_api: Server) -> None:
    section = README.split("## I call it")[1].split("## I publish")[0]
    listed = set(re.findall(r"`(?:GET |POST |PUT |DELETE )?(/[a-z_./<>]*)`", section))
    protocols = {tag.name for blueprint in BLUEPRINTS for tag in blueprint.abp_tags}  # docs/clients.md lists theirs
    paths = minilm_api.get("/openapi.json").json()["paths"]
    own = [path for path in paths if not {one["tags"][0] for one in paths[path].values()} <= protocols]
    served = {re.sub(r"\{(\w+)\}", r"<\1>", path) for path in own}
    assert served - {"/problems/<slug>"} <= listed
