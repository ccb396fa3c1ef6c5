"""The requests in docs/encoder-tasks.md, sent as they stand; of an answer, what is shown there, at the digits shown."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from model_api.repository.known_tasks import TASKS
from model_api.tasks import find_task
from tests.rigs.author import Author
from tests.rigs.project import ROOT
from tests.rigs.server import Server, server
from tests.rigs.taught_models import TAUGHT

PAGE = (ROOT / "docs" / "encoder-tasks.md").read_text()
PAIRS = re.findall(r"```\n(curl [^`]*)```\n```json\n(.*?)```", PAGE, re.DOTALL)
SHOWN_HERE = (
    "token-classification",
    "question-answering",
    "zero-shot-classification",
    "fill-mask",
    "feature-extraction",
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    author = Author(tmp_path_factory.mktemp("store"))
    folders = {}
    for name, (task, teach) in TAUGHT.items():
        folders[name] = tmp_path_factory.mktemp(name)
        teach(folders[name])
        author.publish(folders[name], name, task=task)
    author.publish(folders["inference"], "topics", task="zero-shot-classification")
    author.publish(folders["words"], "features", task="feature-extraction")
    with server(tmp_path_factory.mktemp("server"), MODEL_API_EFS_ROOT=author.layout.root) as api:
        api.wait_until_ready()
        yield api


def test_every_command_has_its_answer() -> None:
    assert len(PAIRS) == len(re.findall(r"^curl ", PAGE, re.MULTILINE)) == len(SHOWN_HERE) + 1


@pytest.mark.parametrize("name", SHOWN_HERE)
def test_every_parameter_is_told(name: str) -> None:
    section = PAGE[PAGE.index(f"\n## {name}\n") :].split("\n## ", 2)[1]
    told = set(find_task(name).parameters.model_fields) - {"truncate"}
    assert {parameter for parameter in told if f"`{parameter}`" not in section} == set()
    (row,) = re.findall(rf"^\| \[{name}\].*$", PAGE, re.MULTILINE)
    own = set(TASKS[name].own_options) - {"int8_min_cosine"}
    assert own == set(re.findall(r"`(\w+)`", row.split("|")[-2]))


@pytest.mark.integration
@pytest.mark.parametrize(("command", "answer"), PAIRS, ids=range(len(PAIRS)))
def test_it_is_answered_as_shown(api: Server, command: str, answer: str) -> None:
    moved = command.strip().replace("http://127.0.0.1:8000", api.url).replace("curl ", "curl --silent --fail ", 1)
    done = subprocess.run(["bash", "-c", moved], capture_output=True, text=True, check=True)
    shown = json.loads(answer, parse_float=str)
    assert as_shown(json.loads(done.stdout), shown) == shown


def as_shown(got: Any, shown: Any) -> Any:
    """Of `got` the names that are shown, with its numbers at the digits shown."""
    if isinstance(got, list) and isinstance(shown, list):
        return [as_shown(*pair) for pair in zip(got, shown, strict=True)]
    if isinstance(got, dict) and isinstance(shown, dict):
        return {name: as_shown(got[name], value) for name, value in shown.items()}
    return f"{got:.{len(shown.partition('.')[2])}f}" if isinstance(got, float) and isinstance(shown, str) else got
