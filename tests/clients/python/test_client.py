"""Both clients against a running server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_api_client import (
    InvalidInput,
    JobCancelled,
    JobFailed,
    NotFound,
    TooLate,
    UnknownJob,
    UnknownModel,
    UploadRefused,
    VersionNotLoaded,
)

from tests.clients.python.both import KINDS, open_client
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
MANY = 130


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api")
    (folder / "efs").mkdir()
    Author(folder / "efs").publish(tiny_model(folder / "tiny", seed=1), "tiny")
    with server(folder, MODEL_API_EFS_ROOT=folder / "efs", MODEL_API_JOBS_DIR=folder / "jobs") as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, api: Server) -> Iterator[Any]:
    yield from open_client(request.param, api.url)


def test_predictions_name_their_weights_and_the_request(api: Server, client: Any) -> None:
    found = client.predict("tiny", ["the cat", "the rain"], {"normalize": True})
    model = api.get("/models/tiny").json()
    assert (found.model, found.version, found.digest) == ("tiny", model["version"], model["digest"])
    assert (found.task, len(found), found.truncated, found.cached_s) == ("embedding", 2, [], None)
    assert found.tokens > 0
    assert found.request_id
    vectors = found.vectors()
    assert (vectors.dtype, vectors.shape) == (np.float32, (2, len(found[0])))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert client.predict("tiny", "the cat").predictions == client.predict("tiny", ["the cat"]).predictions
    assert len(client.predict("tiny", np.array(["a", "the"]))) == 2


def test_similarities_are_in_order_and_ranked(client: Any) -> None:
    found = client.sim("the cat", ["the rain", "the cat"])
    assert found.sims[1] == pytest.approx(1, abs=1e-4)
    assert found.sims[0] < 0.999
    assert [text for text, _ in found.ranked()] == ["the cat", "the rain"]
    assert (found.model, found.target, found.texts) == ("tiny", "the cat", ["the rain", "the cat"])
    assert client.sim("the cat", iter(["a"])).texts == ["a"]
    assert list(client.sim("the cat", [])) == []
    cut = client.sim("the cat", ["a", "the " * 5000], parameters={"truncate": True})
    assert cut.truncated == [1]
    with pytest.raises(TypeError, match="list of texts"):
        client.sim("the cat", "the rain")


def test_scores(client: Any) -> None:
    found = client.score(["the bridge opens"], ["the bridge opens"])
    assert found.mean["rouge1"] == 1
    assert (found.model, found.predictions, len(found.items)) == (None, None, 1)


def test_models(api: Server, client: Any) -> None:
    (found,) = client.models()
    assert (found.name, found.task, found.state, found.refused) == ("tiny", "embedding", "serving", {})
    assert client.model("tiny").document["versions"]
    for name in ("nobody", "../models", "a b", "ä"):
        with pytest.raises((UnknownModel, NotFound)):
            client.model(name)
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="a name"):
            client.model(name)


def test_refusals_are_of_their_own_classes(client: Any) -> None:
    with pytest.raises(UnknownModel) as unknown:
        client.predict("nobody", "a")
    assert (unknown.value.status, unknown.value.type) == (404, "unknown-model")
    with pytest.raises(VersionNotLoaded):
        client.predict("tiny@77", "a")
    with pytest.raises(InvalidInput) as empty:
        client.predict("tiny", ["a", ""])
    assert [place.pointer for place in empty.value.places] == ["/inputs/1"]
    with pytest.raises(InvalidInput, match="reranking"):
        client.rerank("a", ["b"], "tiny")
    with pytest.raises(ValueError, match="JSON compliant"):
        client.predict("tiny", [float("nan")])


def test_map_keeps_the_order_and_tells_how_far_it_is(client: Any) -> None:
    texts = [f"the cat {'the ' * (i % 7)}{i}" for i in range(MANY)]
    told: list[tuple[int, int]] = []
    found = list(client.map(texts, "tiny", chunk_size=8, at_once=3, progress=lambda *now: told.append(now)))
    assert found == client.predict("tiny", texts).predictions
    assert told[-1] == (MANY, MANY)
    assert told == sorted(told)
    assert len(told) == 17


def test_map_reads_no_further_than_it_asks(client: Any) -> None:
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"the {read}"

    told: list[tuple[int, int]] = []
    mapped = client.map(texts(), "tiny", chunk_size=4, at_once=2, progress=lambda *now: told.append(now))
    for _ in range(10):
        next(mapped)
    mapped.close()
    assert read <= 10 + 4 * 3
    assert told[0] == (4, -1)


@pytest.mark.parametrize("chunk_size", [1, 5, 64])
def test_map_tells_which_input_is_refused(client: Any, chunk_size: int) -> None:
    texts = ["the cat"] * 20
    texts[3] = texts[4] = texts[17] = ""
    with pytest.raises(InvalidInput, match="input 3: ") as refused:
        list(client.map(texts, "tiny", chunk_size=chunk_size))
    assert refused.value.index == 3
    found = list(client.map(texts, "tiny", chunk_size=chunk_size, on_error="return"))
    assert [i for i, item in enumerate(found) if isinstance(item, InvalidInput)] == [3, 4, 17]
    assert [item.index for item in found if isinstance(item, InvalidInput)] == [3, 4, 17]
    assert {len(item) for item in found if isinstance(item, list)} == {len(found[0])}
    with pytest.raises(InvalidInput, match="nonsense"):
        list(client.map(["a"], "tiny", {"nonsense": 1}, on_error="return"))
    with pytest.raises(UnknownModel):
        list(client.map(["a"], "nobody", on_error="return"))


def test_map_of_nothing_asks_nothing(client: Any) -> None:
    assert list(client.map([], "nobody")) == []
    with pytest.raises(ValueError, match="chunk_size"):
        list(client.map([], "tiny", chunk_size=0))
    with pytest.raises(ValueError, match="on_error"):
        list(client.map([], "tiny", on_error="ignore"))


def test_a_job_is_awaited_and_gives_what_the_call_would(client: Any) -> None:
    job = client.jobs.submit("predict", model="tiny", inputs=["the cat", "jobs"])
    seen: list[str] = []
    found = client.jobs.result(job, timeout_s=60, progress=lambda now: seen.append(now.status))
    assert found.predictions == client.predict("tiny", ["the cat", "jobs"]).predictions
    assert (found.model, found.version, found.digest) == (job.model, job.version, job.digest)
    assert seen[-1] == "succeeded"
    assert client.jobs.submit("predict", model="tiny", inputs=["the cat", "jobs"]).id == job.id
    similar = client.jobs.result(client.jobs.submit("sim", target="the cat", texts=["the rain"]))
    assert (similar.sims, similar.model) == (client.sim("the cat", ["the rain"]).sims, "tiny")
    scored = client.jobs.result(client.jobs.submit("score", targets=["a"], predictions=["a"]))
    assert scored.mean["rouge1"] == 1
    large = client.jobs.submit("predict", model="tiny", inputs=["the cat"] * 900)  # beyond what stands in a job
    assert len(client.jobs.result(large.id)) == 900
    ids = [one.id for one in client.jobs.list(page_size=2)]
    assert {job.id, large.id} <= set(ids)
    assert len(ids) == len(set(ids)) >= 4
    assert {one.kind for one in client.jobs.list(kind="sim", status="succeeded")} == {"sim"}


def test_a_job_that_is_cancelled_fails_or_takes_too_long(client: Any, tmp_path: Path) -> None:
    source = tmp_path / "long.jsonl"
    source.write_text("".join(json.dumps({"text": f"{i} the cat {id(client)}"}) + "\n" for i in range(40_000)))
    job = client.jobs.submit_file(source, "tiny", "text")
    with pytest.raises(TooLate) as late:
        client.jobs.wait(job, 0.05)
    assert late.value.job_id == job.id
    assert client.jobs.cancel(job).status == "cancelled"
    with pytest.raises(JobCancelled):
        client.jobs.result(job)
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"text\n" + f"the cat {id(client)}\n".encode() * 20_000 + b"caf\xe9\n")
    failed = client.jobs.submit_file(bad, "tiny", "text")
    with pytest.raises(JobFailed, match="UTF-8") as error:
        client.jobs.result(failed)
    assert error.value.cause["status"] == error.value.status == 422
    assert client.jobs.get(failed).status == "failed"
    with pytest.raises(UnknownJob):
        client.jobs.get("f" * 64)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_file_goes_through_a_model(client: Any, tmp_path: Path, form: str) -> None:
    texts = [f"the cat {i} {'the ' * (i % 50)}" for i in range(3000)]
    source, target = tmp_path / f"in.{form}", tmp_path / f"out.{form}"
    rows = ["text", *texts] if form == "csv" else [json.dumps({"text": text}) for text in texts]
    source.write_text("\n".join(rows) + "\n")
    sent: list[tuple[int, int]] = []
    told: list[int] = []
    done = client.predict_file(
        source,
        "tiny",
        "text",
        target,
        sending=lambda *now: sent.append(now),
        progress=lambda job: told.append(job.progress_done),
    )
    size = source.stat().st_size
    assert sent[-1] == (size, size)
    assert told == sorted(told)
    assert (done.status, done.progress_done, done.progress_unit) == ("succeeded", 3000, "rows")
    lines = target.read_text().splitlines()
    assert len(lines) == 3000 + (form == "csv")
    assert list(tmp_path.glob(".out*")) == []
    assert target.stat().st_mode & 0o444 == 0o444
    assert client.jobs.result(done) == target.read_bytes()


def test_an_upload_without_a_job(client: Any, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text(f"text\nthe cat {id(client)}\n")
    sent = client.upload(source)
    assert (sent.size_bytes, sent.job_id) == (source.stat().st_size, None)
    job = client.jobs.submit("file", model="tiny", upload=sent.id, parameters={"column": "text"})
    assert client.jobs.wait(job).status == "succeeded"
    with pytest.raises(ValueError, match="content_type"):
        client.upload(source.rename(tmp_path / "a.txt"))
    (tmp_path / "no.mp4").write_text("no video")
    with pytest.raises(UploadRefused):
        client.upload(tmp_path / "no.mp4")
    with pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_swapped_under_a_map_is_never_mixed(kind: str, tmp_path: Path) -> None:
    (tmp_path / "efs").mkdir()
    author = Author(tmp_path / "efs")
    author.publish(tiny_model(tmp_path / "one", seed=1), "tiny")
    texts = [f"the cat {i}" for i in range(40)]
    with server(tmp_path / "server", MODEL_API_EFS_ROOT=tmp_path / "efs", MODEL_API_PIN_S=600) as api:
        api.wait_until_ready()
        for client in open_client(kind, api.url):
            before = client.predict("tiny", texts).predictions
            mapped = client.map(texts, "tiny", chunk_size=4, at_once=2)
            found = [next(mapped) for _ in range(5)]
            author.publish(tiny_model(tmp_path / "two", seed=2), "tiny")
            api.wait_for_model("tiny", version="2", state="serving")
            found += list(mapped)
            assert found == before
            assert client.predict("tiny", texts).predictions != before
