"""A file through a model, with a real HTTP server that answers as the API does."""

import csv
import json
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from model_api.jobs.files.__main__ import main
from model_api.jobs.files.predictors import Hopeless, OneFails, RowRefused, ServerAsker, TryLater
from model_api.jobs.files.run import Job, run
from model_api.jobs.files.tables import BadTable, form_of


class Upper:
    """Answers in capitals; refuses `bad`, and asks to come back later as often as told."""

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []
        self.busy = 0
        self.stop_at: Any = None

    def ask(self, inputs: Sequence[Any]) -> list[Any]:
        self.asked.append(list(inputs))
        if self.busy:
            self.busy -= 1
            raise TryLater("busy", 2.0)
        if self.stop_at in inputs:
            raise Hopeless("gone")
        if "bad" in inputs:
            raise RowRefused(list(inputs).index("bad"), "text is bad")
        return [{"label": text.upper(), "score": 0.5} for text in inputs]

    def close(self) -> None: ...


class Waits(threading.Event):
    """Waits for nothing, and notes how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return self.is_set()


def job(source: Path, **more: Any) -> Job:
    return Job(source, source.with_name("out" + source.suffix), form_of(source), "text", {"model": "m"}, **more)


def go(source: Path, asker: Upper, **more: Any) -> tuple[int, int]:
    done = run(job(source, **more), asker, lambda *_: None, Waits())
    return done.rows, done.errors


def write_csv(path: Path, texts: Sequence[str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([str(i), text] for i, text in enumerate(texts))])
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_keeps_its_columns_and_gets_three_more(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", ['with "quotes",\na line', "bad", "ünï"])
    assert go(source, Upper()) == (3, 1)
    assert read_csv(tmp_path / "out.csv") == [
        {
            "id": "0",
            "text": 'with "quotes",\na line',
            "prediction": 'WITH "QUOTES",\nA LINE',
            "prediction_score": "0.5",
            "error": "",
        },
        {"id": "1", "text": "bad", "prediction": "", "prediction_score": "", "error": "text is bad"},
        {"id": "2", "text": "ünï", "prediction": "ÜNÏ", "prediction_score": "0.5", "error": ""},
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_json_lines_keep_whole_predictions(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a", "n": 1}\n\n{"other": 2}\n{"text": "bad"}\n')
    assert go(source, Upper()) == (3, 2)
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        {"text": "a", "n": 1, "prediction": {"label": "A", "score": 0.5}, "error": None},
        {"other": 2, "prediction": None, "error": "no 'text'"},
        {"text": "bad", "prediction": None, "error": "text is bad"},
    ]


def test_order_is_kept_with_many_requests_at_once(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", [f"t{i}" for i in range(500)])
    assert go(source, Upper(), rows_per_request=3, requests_at_once=8) == (500, 0)
    assert [row["prediction"] for row in read_csv(tmp_path / "out.csv")] == [f"T{i}" for i in range(500)]


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", [f"t{i}" for i in range(100)])
    first = Upper()
    first.stop_at = "t57"
    with pytest.raises(Hopeless):
        go(source, first, rows_per_request=10, requests_at_once=1)
    assert not (tmp_path / "out.csv").exists()
    with (tmp_path / "out.csv.part").open("ab") as partial:
        partial.write(b"half a ro")  # as a crash leaves it
    second = Upper()
    assert go(source, second, rows_per_request=10, requests_at_once=1) == (100, 0)
    assert second.asked[0][0] == "t50"
    assert [row["prediction"] for row in read_csv(tmp_path / "out.csv")] == [f"T{i}" for i in range(100)]


def test_another_source_or_model_starts_afresh(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", [f"t{i}" for i in range(100)])
    first = Upper()
    first.stop_at = "t57"
    with pytest.raises(Hopeless):
        go(source, first, rows_per_request=10)
    write_csv(source, [f"u{i}" for i in range(101)])
    second = Upper()
    assert go(source, second, rows_per_request=10) == (101, 0)
    assert min(second.asked)[0] == "u0"


def test_what_should_be_tried_later_is(tmp_path: Path) -> None:
    asker, waits = Upper(), Waits()
    asker.busy = 3
    source = write_csv(tmp_path / "in.csv", ["a", "b"])
    assert run(job(source), asker, lambda *_: None, waits).rows == 2
    assert waits.seconds == [2.0, 4.0, 8.0]
    asker.busy = 10**6
    with pytest.raises(Hopeless, match="given up"):
        run(job(source), asker, lambda *_: None, Waits())


def test_nobody_goes_on_waiting_once_a_run_has_ended(tmp_path: Path) -> None:
    class BusyOrGone:
        busy = threading.Event()

        def ask(self, inputs: Sequence[Any]) -> list[Any]:
            if inputs == ["busy"]:
                self.busy.set()
                raise TryLater("busy", 3600.0)
            self.busy.wait()
            raise Hopeless("gone")

        def close(self) -> None: ...

    source = write_csv(tmp_path / "in.csv", ["gone", "busy"])
    with pytest.raises(Hopeless, match="gone"):
        run(job(source, rows_per_request=1), BusyOrGone(), lambda *_: None, threading.Event())


def test_two_runs_never_write_the_same_file(tmp_path: Path) -> None:
    class RunsAgain(Upper):
        def ask(self, inputs: Sequence[Any]) -> list[Any]:
            with pytest.raises(OSError, match=r"another run is writing .*out\.csv\.part"):
                go(source, Upper())
            return super().ask(inputs)

    source = write_csv(tmp_path / "in.csv", ["a", "b"])
    assert go(source, RunsAgain()) == (2, 0)
    assert [row["prediction"] for row in read_csv(tmp_path / "out.csv")] == ["A", "B"]


def test_an_input_that_breaks_its_request_is_found_alone(tmp_path: Path) -> None:
    class Breaks(Upper):
        def ask(self, inputs: Sequence[Any]) -> list[Any]:
            if "poison" in inputs:
                raise OneFails("the model failed") if len(inputs) > 1 else RowRefused(0, "the model failed")
            return super().ask(inputs)

    source = write_csv(tmp_path / "in.csv", ["a", "poison", "b"])
    assert go(source, Breaks()) == (3, 1)
    assert [row["prediction"] or row["error"] for row in read_csv(tmp_path / "out.csv")] == [
        "A",
        "the model failed",
        "B",
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.csv", b"id,other\n1,a\n"),
        ("in.csv", b"text,text\na,b\n"),
        ("in.csv", b"id,text\r1,a\r"),
        ("in.csv", b'id,text\n1,a\n2,"never closed\n3,b\n'),
        ("in.csv", b"text\n\xff\n"),
        ("in.csv", b""),
        ("in.txt", b"text\n"),
    ],
    ids=str,
)
def test_bad_tables(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadTable):
        go(tmp_path / name, Upper())


def test_a_csv_row_with_too_few_or_too_many_fields_has_that_as_its_error(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b"id,text\n1\n2,hello, world\n3,c\n")
    assert go(source, Upper()) == (3, 2)
    assert read_csv(tmp_path / "out.csv") == [
        {"id": "1", "text": "", "prediction": "", "prediction_score": "", "error": "line 2 has 1 fields, the header 2"},
        {
            "id": "2",
            "text": "hello",
            "prediction": "",
            "prediction_score": "",
            "error": "line 3 has 3 fields, the header 2",
        },
        {"id": "3", "text": "c", "prediction": "C", "prediction_score": "0.5", "error": ""},
    ]


@pytest.mark.parametrize(
    "line",
    [
        b'{"text": "a"',
        b"[1]",
        b"null",
        b'{"text": NaN}',
        b'{"text": 1e999}',
        b'{"text": "\\ud800"}',
        b'{"text": "\xff"}',
        b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda line: repr(line[:20]),
)
def test_a_broken_json_line_has_that_as_its_error(tmp_path: Path, line: bytes) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n' + line + b'\n{"text": "b"}\n')
    assert go(source, Upper()) == (3, 1)
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        {"text": "a", "prediction": {"label": "A", "score": 0.5}, "error": None},
        {"prediction": None, "error": "line 2 is not a JSON object in UTF-8"},
        {"text": "b", "prediction": {"label": "B", "score": 0.5}, "error": None},
    ]


def test_labels_that_were_asked_for_are_in_the_csv(tmp_path: Path) -> None:
    class AllLabels(Upper):
        def ask(self, inputs: Sequence[Any]) -> list[Any]:
            return [{**answer, "labels": [answer]} for answer in super().ask(inputs)]

    assert go(write_csv(tmp_path / "in.csv", ["a"]), AllLabels()) == (1, 0)
    labels = json.loads(read_csv(tmp_path / "out.csv")[0]["prediction"])["labels"]
    assert labels == [{"label": "A", "score": 0.5}]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak_bytes(n_rows: int) -> int:
        source = write_csv(tmp_path / f"{n_rows}.csv", [f"some text of row {i}" for i in range(n_rows)])
        asker = Upper()
        asker.asked = Forgetful()
        tracemalloc.start()
        assert go(source, asker) == (n_rows, 0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(20_000) < 1.3 * peak_bytes(2_000) + 100_000


class Forgetful(list[list[Any]]):
    def append(self, item: list[Any]) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    """A server that speaks as the API does about its inputs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bad = [i for i, text in enumerate(body["inputs"]) if text == "bad"]
            status = 200
            answer: dict[str, Any] = {"predictions": [text.upper() for text in body["inputs"]]}
            if "poison" in body["inputs"]:
                status, answer = 500, {"detail": "the model failed"}
            elif body["model"] != "m":
                status, answer = 404, {"detail": "no such model"}
            elif bad:
                status, answer = 422, {"detail": "bad", "errors": [{"pointer": f"/inputs/{bad[0]}"}]}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_command_over_http(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_csv(tmp_path / "in.csv", ["a", "bad", "c", "poison"])
    base = [str(source), "--column", "text", "--url", url]
    assert main([*base, "--model", "m"]) == 1
    assert [row["prediction"] or row["error"] for row in read_csv(tmp_path / "in.predictions.csv")] == [
        "A",
        "bad",
        "C",
        "the model failed",
    ]
    assert "4 rows, 2 with an error" in capsys.readouterr().err
    assert main([*base, "--model", "other"]) == 3
    assert capsys.readouterr().err == "predict: no such model\n"
    assert main([*base, "--model", "m", "--out", str(source)]) == 2
    assert main([str(tmp_path / "absent.csv"), "--column", "text", "--model", "m", "--url", url]) == 2
    (tmp_path / "folder.csv").mkdir()
    assert main([str(tmp_path / "folder.csv"), "--column", "text", "--model", "m", "--url", url]) == 2
    assert main([*base, "--model", "m", "--out", str(tmp_path / "absent" / "out.csv")]) == 2
    assert main([*base[:-1], "http://127.0.0.1:port", "--model", "m"]) == 3
    assert main([str(source), "--column", "absent", "--model", "m", "--url", "http://127.0.0.1:9"]) == 2


@pytest.mark.parametrize("option", [("--parameters", "{bad"), ("--parameters", "[]"), ("--rows-per-request", "0")])
def test_a_bad_option_is_named(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["in.csv", "--column", "text", "--model", "m", *option])
    assert f"argument {option[0]}: " in capsys.readouterr().err


def test_a_server_that_is_not_there_is_tried_later() -> None:
    with pytest.raises(TryLater):
        ServerAsker("http://127.0.0.1:9", "m", {}).ask(["a"])
    with pytest.raises(Hopeless):
        ServerAsker("ftp://x", "m", {})
