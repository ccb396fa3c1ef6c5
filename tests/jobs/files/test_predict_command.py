"""scripts/predict as its users run it: the shell script, with the model in its own process or on a running server."""

import csv
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import needs
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
TEXTS = ["the model was published once", "", "the cat and the dog", "tea, rain", "é 茶 🌧"]


def predict(*arguments: str | Path, **environment: str | Path) -> subprocess.CompletedProcess[str]:
    needs(str(ROOT / ".venv" / "bin" / "python"))
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MODEL_API_")}
    return subprocess.run(
        [str(ROOT / "scripts" / "predict"), *map(str, arguments)],
        cwd="/",  # the script must not depend on where it is called
        env={**clean, **{key: str(value) for key, value in environment.items()}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def write_csv(path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *([i, text] for i, text in enumerate(TEXTS))])
    return path


def expect_vectors(path: Path, api_answers: list[list[float]]) -> None:
    """Rows in order, a vector for each but the empty text, which has its reason."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["text"]) for row in rows] == [(str(i), text) for i, text in enumerate(TEXTS)]
    assert [bool(row["error"]) for row in rows] == [not text for text in TEXTS]
    vectors = [json.loads(row["prediction"]) for row in rows if row["prediction"]]
    assert len(vectors) == len(api_answers)
    for vector, expected in zip(vectors, api_answers, strict=True):
        assert vector == pytest.approx(expected, abs=2e-3)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("api"), MODEL_API_EFS_ROOT=tiny_store, MODEL_API_MODELS="tiny") as api:
        api.wait_until_ready()
        yield api


@pytest.fixture(scope="module")
def api_answers(api: Server) -> list[list[float]]:
    """The server's own answers for the texts that have one."""
    answer = api.post("/predict", {"model": "tiny", "inputs": [text for text in TEXTS if text]})
    vectors: list[list[float]] = answer.json()["predictions"]
    assert [len(vector) for vector in vectors] == [64] * 4
    return vectors


def test_help_tells_how_to_call_it() -> None:
    done = predict("--help")
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("FILE", "--model", "--column", "--url", "--parameters"))


def test_a_csv_through_a_running_server(api: Server, api_answers: list[list[float]], tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv")
    done = predict(source, "--model", "tiny", "--column", "text", "--url", api.url, "--rows-per-request", "2")
    assert done.returncode == 1, done.stderr  # one row has an error
    assert "5 rows, 1 with an error" in done.stderr
    expect_vectors(tmp_path / "in.predictions.csv", api_answers)
    assert predict(source, "--model", "absent", "--column", "text", "--url", api.url).returncode == 3
    assert predict(source, "--model", "tiny", "--column", "absent", "--url", api.url).returncode == 2


def test_the_same_csv_with_the_model_in_its_own_process(
    api_answers: list[list[float]], tiny_store: Path, tmp_path: Path
) -> None:
    instance = f"test-{uuid.uuid4().hex[:12]}"
    done = predict(
        write_csv(tmp_path / "in.csv"),
        *("--model", "tiny", "--column", "text", "--out", tmp_path / "out.csv"),
        MODEL_API_EFS_ROOT=tiny_store,
        MODEL_API_LOCAL_STORE=tmp_path / "store",
        MODEL_API_INSTANCE=instance,
    )
    assert done.returncode == 1, done.stderr
    assert "5 rows, 1 with an error" in done.stderr
    expect_vectors(tmp_path / "out.csv", api_answers)
    assert not list(tmp_path.glob("*.part*"))
    wait_until(lambda: not processes_of(instance), what="an end of its model processes")


@pytest.mark.parametrize(
    "store, model, told", [(True, "absent", "absent is not published"), (False, "tiny", "the store can't be read")]
)
def test_what_cannot_be_had_is_told_at_once(
    tiny_store: Path, tmp_path: Path, store: bool, model: str, told: str
) -> None:
    done = predict(
        write_csv(tmp_path / "in.csv"),
        *("--model", model, "--column", "text"),
        MODEL_API_EFS_ROOT=tiny_store if store else tmp_path,
        MODEL_API_LOCAL_STORE=tmp_path / "store",
    )
    assert done.returncode == 3
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def processes_of(instance: str) -> list[int]:
    mark, found = f"MODEL_API_INSTANCE={instance}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended meanwhile
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_an_address_where_nothing_answers_is_told_at_once(tmp_path: Path, host: str) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text\na\n")
    done = predict(rows, "--model", "tiny", "--column", "text", "--url", f"http://{host}:9")
    assert done.returncode == 3
    assert "nothing answers at" in done.stderr
    assert "Traceback" not in done.stderr
