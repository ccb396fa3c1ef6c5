"""The requests in docs/text-tasks.md, sent as they stand; of an answer, what is shown there."""

import json
import re
import subprocess

import pytest

from tests.rigs.project import ROOT
from tests.rigs.server import Server

pytestmark = pytest.mark.integration
PAGE = (ROOT / "docs" / "text-tasks.md").read_text()
PAIRS = re.findall(r"```\n(curl [^`]*)```\n```json\n(.*?)```", PAGE, re.DOTALL)


def test_every_command_has_its_answer() -> None:
    assert len(PAIRS) == len(re.findall(r"^curl ", PAGE, re.MULTILINE)) > 0


@pytest.mark.parametrize(("command", "answer"), PAIRS, ids=range(len(PAIRS)))
def test_it_is_answered_as_shown_at_the_digits_shown(minilm_api: Server, command: str, answer: str) -> None:
    moved = command.strip().replace("http://127.0.0.1:8000", minilm_api.url)
    done = subprocess.run(["bash", "-c", f"{moved} --silent --fail"], capture_output=True, text=True, check=True)
    got, shown = json.loads(done.stdout), json.loads(answer, parse_float=str)
    for name, value in shown.items():
        assert _as_shown(got[name], value) == value


def _as_shown(got: object, shown: object) -> object:
    """`got` with its numbers at the digits of `shown`."""
    if isinstance(got, list) and isinstance(shown, list):
        return [_as_shown(a, b) for a, b in zip(got, shown, strict=True)]
    if isinstance(got, dict) and isinstance(shown, dict):
        return {name: _as_shown(got[name], value) for name, value in shown.items()}
    return f"{got:.{len(shown.partition('.')[2])}f}" if isinstance(got, float) and isinstance(shown, str) else got
