"""docs/architecture.md: the files that it names exist, its floors are the import test's, its first change works."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.models import minilm_folder
from tests.rigs.project import ROOT
from tests.rigs.server import Server
from tests.test_imports import FLOORS

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"## {title}")[1].split("\n## ")[0]


@pytest.mark.parametrize("title", ["The way of a request", "The way of a version"])
def test_every_file_on_the_way_exists(title: str) -> None:
    (block,) = re.findall(r"```\n(.*?)```", section(title), re.DOTALL)
    n_files = 0
    for line in block.splitlines():
        folder = ROOT  # a name without its folder lies in the folder of the one before it
        for name in re.findall(r"[\w/.]+\.py", line):
            found = folder / name if (folder / name).exists() else ROOT / name
            assert found.exists(), f"{name} in: {line}"
            folder, n_files = found.parent, n_files + 1
    assert n_files > 10


def test_the_picture_shows_the_floors_in_their_order() -> None:
    (block,) = re.findall(r"```\n(.*?)```", PAGE.split("## The way")[0], re.DOTALL)
    shown, parent = [], ""
    for line in block.splitlines():
        name = line.split()[0].removesuffix("/").removesuffix(".py")
        if line.startswith(" "):
            shown.append(f"{parent}/{name}")
        else:
            shown.append(name)
            parent = name
    existing = {floor for floor in FLOORS if (ROOT / "model_api" / floor).is_dir()}
    existing |= {floor for floor in FLOORS if (ROOT / "model_api" / f"{floor}.py").is_file()} - {"__main__"}
    assert set(shown) == existing
    top = [name for name in shown if "/" not in name]
    assert top == [floor for floor in FLOORS if floor in top]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
        if not target.startswith(("http:", "https:")):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


@pytest.mark.integration
def test_the_first_change_makes_a_task_that_is_published_served_and_asked(tmp_path: Path) -> None:
    text = section("Your first change: a new task")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    module, line = [code for kind, code in blocks if kind == "python"]
    (path,) = re.findall(r"^`(model_api/tasks/\S+\.py)`:$", text, re.MULTILINE)
    ((_, commands),) = [block for block in blocks if not block[0]]
    publish, curl = commands.splitlines()

    project = tmp_path / "project"
    for name in ("model_api", "application.py", "gunicorn.conf.py"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        project.mkdir(exist_ok=True)
        copy(ROOT / name, project / name)
    (project / path).write_text(module)
    table = project / "model_api/repository/known_tasks.py"
    start = "TASKS: Mapping[str, KnownTask] = {\n"
    assert start in table.read_text()
    table.write_text(table.read_text().replace(start, start + line))

    arguments = shlex.split(publish.replace("FOLDER", str(minilm_folder())))[1:]
    root = tmp_path / "efs"
    for command in (["publish", "--init"], ["publish", *arguments]):
        subprocess.run(
            [sys.executable, "-m", "model_api", *command, "--root", str(root)], cwd=project, check=True, timeout=120
        )
    api = Server(tmp_path / "api", {"MODEL_API_EFS_ROOT": root}, project)
    try:
        api.start()
        api.wait_until_ready()
        asked = curl.replace("http://127.0.0.1:8000", api.url)
        done = subprocess.run(["bash", "-c", f"{asked} --silent --fail"], capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        assert answer["task"] == "text-length"
        assert answer["predictions"] == [{"tokens": 4, "characters": 7}]
        bad = api.post("/predict", {"model": "lengths", "inputs": "a", "parameters": {"characters": "yes"}})
        assert (bad.status, bad.json()["errors"][0]["pointer"]) == (422, "/parameters/characters")
    finally:
        api.close()
