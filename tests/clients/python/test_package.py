"""The wheel, in an environment that has what it says it needs and nothing else; what its documents show, run."""

import doctest
import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import model_api_client
import pytest
from packaging.requirements import Requirement

from tests.rigs.project import ROOT
from tests.rigs.server import Server

pytestmark = pytest.mark.integration
SOURCE = ROOT / "clients" / "python"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder / "source")
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, httpx and what that needs, taken from the environment of the tests:
    no index is asked."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    (packages,) = folder.glob("lib/*/site-packages")
    for name in closure("httpx"):
        copy(name, packages)
    found = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", found, "install", "--no-deps", "--no-index", wheel)
    return found


def run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def closure(name: str) -> set[str]:
    """The distributions that one needs without its extras, itself among them."""
    found: set[str] = set()
    left = [name]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            wanted = [Requirement(line) for line in metadata.requires(one) or []]
            left += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def copy(name: str, packages: Path) -> None:
    distribution = metadata.distribution(name)
    for file in distribution.files or ():
        if not str(file).startswith(".."):
            target = packages / str(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)


def test_the_wheel_is_pure_and_typed(wheel: Path) -> None:
    assert wheel.name == "model_api_client-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        told = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert "model_api_client/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"model_api_client", "model_api_client-0.1.0.dist-info"}
    assert "Requires-Python: >=3.9" in told
    assert re.findall(r"^Requires-Dist: (\S+?)[<>=].*$", told, re.MULTILINE) == ["httpx"]
    assert 'Requires-Dist: numpy; extra == "numpy"' in told


def test_it_asks_a_server_from_where_nothing_else_is(python: Path, minilm_api: Server) -> None:
    code = f"""
import importlib.util, json, sys
from model_api_client import Client, MissingPackage
with Client({minilm_api.url!r}) as client:
    found = client.predict("minilm", "a cat")
    try:
        found.vectors()
    except MissingPackage as error:
        told = str(error)
    strangers = [name for name in ("numpy", "flask") if importlib.util.find_spec(name)]
    print(json.dumps([found.model, len(found[0]), told, strangers]))
"""
    model, size, told, strangers = json.loads(run(python, "-I", "-c", code))
    assert (model, size, strangers) == ("minilm", 384, [])
    command = python.with_name("model-api")
    assert json.loads(run(command, "models", "--url", minilm_api.url))["models"][0]["name"] == "minilm"
    assert told == "vectors() needs numpy: pip install model-api-client[numpy]"


@pytest.mark.parametrize("page", ["README.md"])
def test_its_page_is_true(page: str, minilm_api: Server) -> None:
    text = (SOURCE / page).read_text().replace("http://127.0.0.1:8000", minilm_api.url)
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    told: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=told.append, clear_globs=False)
    test.globs["client"].close()
    assert result.attempted > 10
    assert result.failed == 0, "".join(told)


def test_its_docstrings_are_true(minilm_api: Server) -> None:
    attempted = 0
    modules = (model_api_client, model_api_client.client, model_api_client.async_client, model_api_client.jobs)
    for module in modules:
        with model_api_client.Client(minilm_api.url) as client:
            given = {"url": minilm_api.url, "client": client}
            result = doctest.testmod(module, extraglobs=given, optionflags=FLAGS)
        assert result.failed == 0
        attempted += result.attempted
    assert attempted >= 10
