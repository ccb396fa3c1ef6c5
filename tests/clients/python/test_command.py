"""The client's command, as a person at a terminal and a program in a pipe have it."""

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from model_api_client.command.arguments import parser
from model_api_client.command.completion import SCRIPTS, candidates
from model_api_client.command.main import main
from model_api_client.command.output import Bar, shown, table, width

from tests.needs import needs
from tests.rigs.author import Author
from tests.rigs.free_port import free_port
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.server import Server, server

COMMAND = (sys.executable, "-m", "model_api_client.command.main")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "clients" / "python"), "PYTHONUTF8": "1", "COLUMNS": "80"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api")
    (folder / "efs").mkdir()
    Author(folder / "efs").publish(tiny_model(folder / "tiny", seed=1), "tiny")
    with server(folder, MODEL_API_EFS_ROOT=folder / "efs", MODEL_API_JOBS_DIR=folder / "jobs") as running:
        running.wait_until_ready()
        yield running


class Ran:
    """One call of the command in this process: its exit code and what it said."""

    def __init__(self, code: int, out: str, error: str) -> None:
        self.code, self.out, self.error = code, out, error

    def json(self) -> Any:
        assert self.code == 0, self.error
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def ran(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            code = main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Ran(code, *capsys.readouterr())

    return ran


@pytest.mark.integration
def test_json_in_a_pipe(api: Server, run: Any) -> None:
    found = run("sim", "the cat", "the rain", "the cat", "--url", api.url).json()
    assert (found["texts"], found["model"], len(found["digest"])) == (["the rain", "the cat"], "tiny", 64)
    assert run("--url", api.url, "sim", "the cat", stdin="the rain\nthe cat\n").json() == found
    one = run("predict", "--model", "tiny", "the cat", "--parameters", '{"normalize": true}', "--url", api.url).json()
    assert sum(value * value for value in one["predictions"][0]) == pytest.approx(1, abs=1e-4)
    assert [model["name"] for model in run("models", "--url", api.url).json()["models"]] == ["tiny"]
    assert run("models", "tiny", "--url", api.url).json()["versions"]


@pytest.mark.integration
def test_lines_come_back_one_by_one(api: Server, run: Any) -> None:
    found = run("predict", "--model", "tiny", "--url", api.url, stdin="the cat\n\nthe rain\n")
    rows = [json.loads(line) for line in found.out.splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert ["prediction" in row for row in rows] == [True, False, True]
    assert "empty" in rows[1]["error"]
    assert found.code == 1


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["predict", "--model", "nobody", "a"], 1, "no model named 'nobody'"),
        (["predict", "--model", "tiny", "a", ""], 1, "(/inputs/1)"),
        (["models", "nobody"], 1, "nobody"),
        (["jobs", "show", "f" * 64], 1, "no job"),
        (["jobs", "cancel", "zz"], 1, "no job begins with 'zz'"),
        (["predict", "--model", "tiny", "--file", "x.csv"], 2, "belong together"),
        (["predict", "--model", "tiny", "--file", "nowhere.csv", "--column", "text"], 2, "nowhere.csv"),
        (["predict", "--model", "tiny", "--file", "README.md", "--column", "text"], 2, "content_type"),
        (["predict", "--model", "tiny", "a", "--out", "b"], 2, "--out is for --file"),
        (["models", "--url", "nowhere"], 2, "no URL"),
        (["sim"], 2, "TARGET"),
        (["nonsense"], 2, "invalid choice"),
        (["predict", "--model", "tiny", "--parameters", "[1]", "a"], 2, "--parameters"),
    ],
)
def test_errors_are_one_line(api: Server, run: Any, arguments: list[str], code: int, said: str) -> None:
    found = run("--url", api.url, *arguments)
    assert (found.code, found.out) == (code, "")
    assert said in found.error
    line = found.error.splitlines()[-1]  # argparse puts its usage before it
    assert line.startswith("model-api")
    assert code == 2 or found.error.count("\n") == 1


def test_a_server_that_isn_t_there_is_one_line_too(run: Any) -> None:
    found = run("models", "--url", f"http://127.0.0.1:{free_port()}")
    assert (found.code, found.error.count("\n")) == (3, 1)
    assert "can't connect" in found.error


@pytest.mark.integration
def test_a_whole_file_and_its_job(api: Server, run: Any, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "".join(f"the cat {i}\n" for i in range(200)) + '""\n')
    ask = ("predict", "--model", "tiny", "--url", api.url, "--file", str(source), "--column", "text")
    found = run(*ask)
    assert found.code == 1  # one row has an error
    told = json.loads(found.out)
    assert (told["rows"], told["errors"], told["out"]) == (201, 1, str(tmp_path / "in.predictions.csv"))
    lines = Path(told["out"]).read_text().splitlines()
    assert len(lines) == 202
    assert run(*ask, "--out", str(source)).code == 2
    head = told["job"][:20]
    assert run("jobs", "show", head, "--url", api.url).json()["id"] == told["job"]
    assert run("jobs", "--url", api.url, "wait", head).json()["status"] == "succeeded"
    assert run("jobs", "result", head, "--url", api.url, "--out", str(tmp_path / "again.csv")).json()
    assert (tmp_path / "again.csv").read_text().splitlines() == lines
    assert run("jobs", "--url", api.url, "--kind", "file").json()["jobs"][0]["id"] == told["job"]
    assert run("jobs", "--url", api.url, "--status", "failed").json() == {"jobs": []}
    assert run("jobs", "cancel", head, "--url", api.url).code == 1  # it is over


def on_terminal(*arguments: str) -> str:
    """What the command writes where its output is a terminal."""
    screen, terminal = pty.openpty()
    try:
        done = subprocess.run([*COMMAND, *arguments], stdout=terminal, env=ENVIRONMENT, timeout=60)
        assert done.returncode == 0
        os.set_blocking(screen, False)
        return os.read(screen, 1 << 16).decode()
    finally:
        os.close(screen)
        os.close(terminal)


@pytest.mark.integration
def test_tables_on_a_terminal(api: Server) -> None:
    lines = on_terminal("models", "--url", api.url).splitlines()
    assert lines[0].split() == ["NAME", "TASK", "VERSION", "STATE", "PRECISION", "CANARY", "REFUSED"]
    assert lines[1].split()[:4] == ["tiny", "embedding", "1", "serving"]
    nearest = on_terminal("sim", "the cat", "the \x1b[31mrain", "the cat", "--url", api.url).splitlines()
    assert nearest[1].split(maxsplit=1)[1] == "the cat"
    assert "\x1b" not in nearest[2]
    vector = on_terminal("predict", "--model", "tiny", "the cat", "--url", api.url).splitlines()
    assert "in all]" in vector[1]
    assert json.loads(on_terminal("models", "--json", "--url", api.url))["models"]
    done = subprocess.run([*COMMAND, "models", "--table", "--url", api.url], capture_output=True, env=ENVIRONMENT)
    assert done.stdout.startswith(b"NAME")


def test_a_reader_that_goes_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {' '.join(COMMAND)} completion bash | true"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
    )
    assert "Traceback" not in done.stderr


def test_cells_fit_and_hold_no_command() -> None:
    lines = table(("a", "b"), [(1, "x" * 200), (None, "漢字" * 50)], 40)
    assert all(width(line) <= 40 for line in lines)
    assert lines[1].endswith("…")
    assert shown("a\nb\x1b[2J\u202e") == "a b\\x1b[2J\\u202e"
    assert shown([0.123456, 1.0, 2.0, 3.0, 4.0]) == "[0.1235, 1, 2, 3, … 5 in all]"


@pytest.mark.parametrize("arguments", [(), ("sim",), ("predict",), ("models",), ("jobs",), ("jobs", "result")])
def test_help(run: Any, arguments: tuple[str, ...]) -> None:
    found = run(*arguments, "--help")
    assert (found.code, found.error) == (0, "")
    assert "--url" in found.out


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("model-api ", {"sim", "predict", "models", "jobs", "completion"}),
        ("model-api pre", {"predict"}),
        ("model-api predict --par", {"--parameters"}),
        ("model-api jobs c", {"cancel"}),
        ("model-api jobs --status f", {"failed"}),
        ("model-api jobs cancel --u", {"--url"}),
        ("model-api completion ", {"bash", "zsh", "fish"}),
        ("model-api predict --parameters ", set()),
        ("model-api predict 'an open quote", set()),
        ("model-api sim --model t --url http://127.0.0.1:1 --mo", {"--model"}),
    ],
)
def test_completion(line: str, wanted: set[str]) -> None:
    found = set(candidates(parser(), line))
    assert wanted <= found
    assert wanted or not found


@pytest.mark.integration
def test_bash_completes_models_of_the_server(api: Server) -> None:
    needs("bash")
    api.post("/jobs", {"kind": "sim", "target": "a", "texts": ["b"]})
    wait_until(lambda: api.get("/jobs?status=succeeded").json()["jobs"], within_s=30, what="a job's end")
    stand_in = f'model-api() {{ {" ".join(COMMAND)} "$@"; }}'
    for line, wanted in (
        (f"model-api models --url {api.url} t", "tiny"),
        (f"model-api predict --url={api.url} --model ", "tiny"),
        (f"model-api jobs show --url {api.url} ", api.get("/jobs").json()["jobs"][0]["id"]),
    ):
        script = (
            f"{stand_in}\n{SCRIPTS['bash']}\nCOMP_LINE='{line}' COMP_POINT={len(line)}\n_model_api\n"
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
        assert wanted in done.stdout.splitlines(), done.stderr


def test_progress_is_drawn_on_a_terminal_alone(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar("sending")
    bar.show(1, 2, "bytes")
    bar.close()
    assert capsys.readouterr().err == ""
    screen, terminal = pty.openpty()
    code = "from model_api_client.command.output import Bar\nb = Bar('sending')\nb.show(1000, 1000, 'bytes')\nb.close()"
    try:
        subprocess.run([sys.executable, "-c", code], stderr=terminal, env=ENVIRONMENT, timeout=60, check=True)
        assert b"sending [########################] 1,000 of 1,000 bytes" in os.read(screen, 4096)
    finally:
        os.close(screen)
        os.close(terminal)
