"""The requests in docs/sequence-tasks.md, sent as they stand, and their answers as shown there."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from model_api.repository.known_tasks import TASKS
from model_api.tasks import find_task
from tests.rigs.author import Author
from tests.rigs.project import ROOT
from tests.rigs.server import Server, server
from tests.rigs.taught_sequences import summaries, translations

PAGE = (ROOT / "docs" / "sequence-tasks.md").read_text()
ALL = PAGE + (ROOT / "docs" / "text-tasks.md").read_text()
PAIRS = re.findall(r"```\n(curl [^`]*)```\n```json\n(.*?)```", PAGE, re.DOTALL)
TASKS_HERE = ("summarization", "translation")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    author = Author(tmp_path_factory.mktemp("store"))
    for name, teach, task in (("summaries", summaries, "summarization"), ("translations", translations, "translation")):
        folder = tmp_path_factory.mktemp(name)
        teach(folder)
        author.publish(folder, name, task=task)
    with server(tmp_path_factory.mktemp("server"), MODEL_API_EFS_ROOT=author.layout.root) as api:
        api.wait_until_ready()
        yield api


def test_every_command_has_its_answer() -> None:
    assert len(PAIRS) == len(re.findall(r"^curl ", PAGE, re.MULTILINE)) == len(TASKS_HERE)


@pytest.mark.parametrize("name", TASKS_HERE)
def test_every_parameter_and_option_is_told(name: str) -> None:
    told = {*find_task(name).parameters.model_fields, *TASKS[name].own_options}
    assert {word for word in told if f"`{word}`" not in ALL} == set()


@pytest.mark.integration
@pytest.mark.parametrize(("command", "answer"), PAIRS, ids=range(len(PAIRS)))
def test_it_is_answered_as_shown(api: Server, command: str, answer: str) -> None:
    moved = command.strip().replace("http://127.0.0.1:8000", api.url).replace("curl ", "curl --silent --fail ", 1)
    done = subprocess.run(["bash", "-c", moved], capture_output=True, text=True, check=True)
    got = json.loads(done.stdout)
    assert {name: got[name] for name in json.loads(answer)} == json.loads(answer)
