"""What docs/clients.md shows, done letter by letter."""

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from model_api_client import Client
from model_api_client._problems import BY_TYPE

from model_api.web.protocols.spoken import BLUEPRINTS
from tests.documents.test_jobs import as_shown
from tests.rigs.project import ROOT
from tests.rigs.server import Server
from tests.rigs.stand_in_service import stand_in_app

PAGE = (ROOT / "docs" / "clients.md").read_text()
HOST = "http://127.0.0.1:8000"


@pytest.mark.integration
def test_the_python_gives_what_is_shown(minilm_api: Server) -> None:
    test = doctest.DocTestParser().get_doctest(PAGE.replace(HOST, minilm_api.url), {}, "clients.md", None, 0)
    told: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append)
    assert result.attempted >= 2
    assert result.failed == 0, "".join(told)


@pytest.mark.integration
def test_the_command_answers_as_shown(minilm_api: Server, tmp_path: Path) -> None:
    program = tmp_path / "model-api"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT}/clients/python exec {sys.executable} -m model_api_client.command.main "$@"\n'
    )
    program.chmod(0o755)
    blocks = re.findall(r"```\n(model-api .*?)\n```\n```json\n(.*?)\n```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for command, shown in blocks:
        done = subprocess.run(
            ["bash", "-c", f"PATH={tmp_path}:$PATH; {command.replace(HOST, minilm_api.url)}"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert as_shown(json.loads(done.stdout), json.loads(shown)) == json.loads(shown)


def test_every_problem_of_the_table_is_a_class() -> None:
    table = (ROOT / "docs" / "http.md").read_text().split("## Problems")[1]
    slugs = set(re.findall(r"^\| \d{3} \| ([a-z-]+) \|", table, re.MULTILINE))
    assert len(slugs) > 20
    assert slugs <= BY_TYPE.keys()


def test_every_call_it_names_is_there() -> None:
    table = PAGE.split("| | |")[1].split("\n- ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert len(rows) == 5
    with Client(HOST) as client:
        for name in re.findall(r"`([a-z][a-z_.]*)", " ".join(rows)):
            owner = client.jobs if hasattr(client.jobs, name) else client
            for part in name.split("."):
                owner = getattr(owner, part)


def test_every_route_of_a_protocol_is_listed() -> None:
    listed = set(re.findall(r"`((?:GET|POST) /[^`]+)`", PAGE.split("## Other people's")[1]))
    names = {blueprint.name for blueprint in BLUEPRINTS}
    rules = [rule for rule in stand_in_app()[0].url_map.iter_rules() if rule.endpoint.split(".")[0] in names]
    served = {f"{method} {rule.rule}" for rule in rules for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert len(served) > 20
    assert served == listed - {"POST /score"}
