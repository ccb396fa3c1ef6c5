"""Videos as callers send them: by an upload with a job, by a job on an upload, and by the old judge's own routes."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from model_api.compute.video.clips import cut_clips
from model_api.tasks import find_task
from tests.needs import needs_package
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server
from tests.rigs.videos import as_file, moving_square, save_network, small_network, small_video_model

pytestmark = pytest.mark.integration
TYPES = {"mp4": "video/mp4", "mov": "video/quicktime", "avi": "video/x-msvideo"}


def encoded(n: int = 40, container: str = "mp4", seed: int = 0) -> bytes:
    from scripts.training.diving.encoding import encode

    return encode(moving_square(n, 96, 128, seed), container, "mpeg4" if container == "avi" else "libx264")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_package("av")
    return small_video_model(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Server]:
    author = Author(tmp_path_factory.mktemp("store"))
    author.publish(tiny_model(tmp_path_factory.mktemp("tiny"), seed=1), "tiny")
    author.publish(folder, "judge", task=None, score_factor=17.0)
    picky = small_video_model(tmp_path_factory.mktemp("picky"), content_head=True)
    author.publish(picky, "picky", task=None, content_minimum=1.0)
    settings = {"MODEL_API_EFS_ROOT": author.layout.root, "MODEL_API_VIDEO_MODEL": "judge",
                "MODEL_API_PRECISION": "float32", "MODEL_API_CACHE": "memory"}  # fmt: skip
    with server(tmp_path_factory.mktemp("server"), **settings) as api:
        api.wait_until_ready()
        yield api


def put(api: Server, address: str, content: bytes, **headers: str) -> requests.Response:
    """To the address as it was given, but for the host, which our own client makes up."""
    parts = urlsplit(address)
    here = f"http://127.0.0.1:{api.port}{parts.path}?{parts.query}"
    return requests.put(here, data=content, headers=headers, timeout=60)


def upload(api: Server, content: bytes, kind: str = "mp4", **body: Any) -> dict[str, Any]:
    asked = api.post("/uploads", {"content_type": TYPES[kind], "size": len(content), **body})
    assert asked.status == 201, asked.body
    sent = put(api, asked.json()["url"], content, **asked.json()["headers"])
    assert sent.status_code == 200, sent.text
    found: dict[str, Any] = sent.json()
    return found


def finished(api: Server, job_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = api.get(f"/jobs/{job_id}?wait=5").json()
        return found if found["status"] not in ("queued", "running") else None

    found = wait_until(look, within_s=120, every_s=0.05, what="the end of a job")
    assert found is not None
    return found


def judged(api: Server, content: bytes, kind: str = "mp4", **job: Any) -> dict[str, Any]:
    sent = upload(api, content, kind, job={"kind": "video-regression", **job})
    assert "job" in sent, sent
    return finished(api, sent["job"])


@pytest.mark.parametrize("kind", TYPES)
def test_an_upload_with_a_job_is_judged(api: Server, folder: Path, kind: str) -> None:
    """To the number that the network gives for the very frames, computed here."""
    from model_api.processes.video_frames import frames_of

    content = encoded(40, kind)
    job = judged(api, content, kind, model="judge")
    assert job["status"] == "succeeded", job["error"]
    assert job["progress"] == {"done": 3, "total": 3, "unit": "clips"}
    result = job["result"]
    assert (result["model"], result["task"], result["usage"]) == (
        "judge", "video-regression", {"frames": 40, "clips": 3},
    )  # fmt: skip
    assert result["digest"] == api.get("/models/judge").json()["digest"] == job["digest"]
    with as_file(content) as file:
        clips = cut_clips(np.stack(list(frames_of(file))))
    model = find_task("video-regression").load_model(folder, None, "float32")  # type: ignore[arg-type]
    (wanted,) = model.forward([np.mean(list(model.forward(list(clips), {})), axis=0)], {})
    (prediction,) = result["predictions"]
    assert prediction["prediction"] == pytest.approx(float(wanted[0]), rel=1e-4)
    assert prediction["score"] == int(prediction["prediction"] * 17)


def test_a_job_on_an_upload_is_the_same_job_for_the_same_video(api: Server) -> None:
    content = encoded(33)
    ids = set()
    for _ in range(2):
        sent = upload(api, content)
        asked = api.post("/jobs", {"kind": "video-regression", "upload": sent["id"]})
        assert asked.status in (200, 202), asked.body
        ids.add(asked.json()["id"])
        assert finished(api, asked.json()["id"])["status"] == "succeeded"
    assert len(ids) == 1


def test_a_video_that_shows_something_else_is_refused_with_how_much(api: Server) -> None:
    job = judged(api, encoded(34), model="picky")
    assert (job["status"], job["attempts"]) == ("failed", 1)
    assert (job["error"]["status"], job["error"]["type"]) == (422, "/problems/invalid-input")
    assert re.fullmatch(r"shows something else \(0\.\d\d\)", job["error"]["detail"])
    assert job["error"]["errors"] == [{"pointer": "/upload", "detail": job["error"]["detail"]}]
    refused = api.get(f"/jobs/{job['id']}/result")
    assert refused.status == 422


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x18ftypmp42" + bytes(500), "not a video: "),
        (b"\0\0\0\x20ftypisom" + b"#EXTM3U\nhttp://127.0.0.1/x.ts\n" * 9, "not a video: "),
        (None, "too long: it has more than 399 frames"),
        (7, "too short: it has 7 frames, a clip has 16"),
    ],
)
def test_what_cannot_be_judged_fails_with_the_reason(api: Server, content: bytes | int | None, words: str) -> None:
    if not isinstance(content, bytes):
        content = encoded(400 if content is None else content)
    job = judged(api, content, model="judge")
    assert (job["status"], job["attempts"], job["error"]["status"]) == ("failed", 1, 422)
    assert job["error"]["detail"].startswith(words)
    assert api.get("/healthz").status == 200


def test_text_called_mp4_is_refused_as_it_comes(api: Server) -> None:
    asked = api.post("/uploads", {"content_type": "video/mp4", "job": {"kind": "video-regression"}}).json()
    refused = put(api, asked["url"], b"This is no video.\n", **asked["headers"])
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/upload-refused")


@pytest.mark.parametrize(
    ("job", "pointer", "words"),
    [
        ({"kind": "video-regression", "parameters": {"speed": 2}}, "/parameters/speed", "unknown parameter"),
        ({"kind": "video-regression", "model": "tiny"}, "/model", "tiny serves embedding, not video-regression"),
        ({"kind": "video-regression", "parameters": {"part": "clip"}}, "/parameters/part", "unknown parameter"),
    ],
)
def test_a_job_that_cannot_be_is_refused_when_it_is_asked(
    api: Server, job: dict[str, Any], pointer: str, words: str
) -> None:
    sent = upload(api, encoded(17))
    refused = api.post("/jobs", {**job, "upload": sent["id"]})
    assert refused.status == 422
    assert refused.json()["errors"][0]["pointer"] == pointer
    assert words in refused.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("job", "pointer"),
    [
        ({"kind": "video-regression", "inputs": ["a.mp4"]}, "/job/inputs"),
        ({"kind": "video-regression", "model": 7}, "/job/model"),
        ({"kind": "summarization", "model": "judge", "inputs": "x"}, "/job/kind"),
    ],
)
def test_an_upload_with_a_job_that_cannot_be_is_refused_when_it_is_asked(
    api: Server, job: dict[str, Any], pointer: str
) -> None:
    refused = api.post("/uploads", {"content_type": "video/mp4", "job": job})
    assert refused.status == 422
    assert refused.json()["errors"][0]["pointer"] == pointer


def test_a_table_is_no_video(api: Server) -> None:
    asked = api.post("/uploads", {"content_type": "text/csv"}).json()
    put(api, asked["url"], b"id,text\n1,a\n", **asked["headers"])
    refused = api.post("/jobs", {"kind": "video-regression", "model": "judge", "upload": asked["id"]})
    assert refused.status == 422
    assert refused.json()["errors"][0]["pointer"] == "/upload"


def test_a_video_in_a_body_is_told_how_it_comes(api: Server) -> None:
    refused = api.post("/predict", {"model": "judge", "inputs": "AAAA"})
    assert refused.status == 422
    assert "comes by an upload with a job" in refused.json()["errors"][0]["detail"]


# ---- the judge of dives' own routes ----


def fetched(api: Server, key: str) -> Any:
    def look() -> Any:
        answer = api.get(f"/fetch?x={key}")
        return None if answer.status == 200 and answer.json() is None else answer

    return wait_until(look, within_s=120, every_s=0.05, what="a score")


@pytest.mark.parametrize("kind", ["mp4", "mov", "avi"])
def test_an_address_a_put_and_the_score_by_its_key(api: Server, kind: str) -> None:
    asked = api.get(f"/uploads?type={kind}")
    assert asked.status == 200
    assert set(asked.json()) == {"uploadURL", "Key"}
    key = asked.json()["Key"]
    assert key.endswith(f".{kind}")
    pending = api.get(f"/fetch?x={key}")
    assert (pending.status, pending.json()) == (200, None)
    sent = put(api, asked.json()["uploadURL"], encoded(20, kind, seed=3))  # as its client: no header of ours
    assert sent.status_code == 200, sent.text
    score = fetched(api, key)
    assert score.status == 200
    assert isinstance(score.json(), int)
    assert score.json() == finished(api, sent.json()["job"])["result"]["predictions"][0]["score"]
    assert api.get(f"/fetch?x={key.partition('.')[0]}").json() == score.json()


def test_mp4_is_meant_where_no_type_is_given(api: Server) -> None:
    assert api.get("/uploads").json()["Key"].endswith(".mp4")


def test_a_failed_one_answers_a_problem_and_not_null_for_ever(api: Server) -> None:
    asked = api.get("/uploads?type=mp4").json()
    put(api, asked["uploadURL"], encoded(9))
    failed = fetched(api, asked["Key"])
    assert (failed.status, failed.headers["content-type"]) == (422, "application/problem+json")
    assert "too short: it has 9 frames" in failed.body.decode()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/uploads?type=gif", 422),
        ("/fetch", 422),
        ("/fetch?x=../../etc/passwd", 422),
        ("/fetch?x=" + "0" * 64, 404),
        ("/fetch?x=" + "0" * 64 + ".mp4", 404),
    ],
)
def test_what_nobody_asked_for_is_an_answer_of_its_own(api: Server, path: str, status: int) -> None:
    assert api.get(path).status == status


def test_an_upload_that_came_without_a_job_has_no_score(api: Server) -> None:
    sent = upload(api, encoded(18))
    assert api.get(f"/fetch?x={sent['id']}").status == 409


# ---- beside others ----


def test_the_web_process_never_decodes(api: Server) -> None:
    """It opens the file and passes it on; the library isn't even loaded there."""
    assert judged(api, encoded(50, seed=5), model="judge")["status"] == "succeeded"
    (web,) = api.pids_by_role()["web"]
    assert "/av/" not in Path(f"/proc/{web}/maps").read_text()


def test_a_cancelled_video_ends_its_decoder(api: Server) -> None:
    content = encoded(399, seed=9)
    sent = upload(api, content, job={"kind": "video-regression", "model": "judge"})
    wait_until(lambda: api.get(f"/jobs/{sent['job']}").json()["status"] != "queued", within_s=60)
    with closing(api.client()) as client:
        cancelled = client.ask("DELETE", f"/jobs/{sent['job']}")
    assert cancelled.status in (200, 409)

    def decoders() -> list[str]:
        web = str(api.pids_by_role()["web"][0])
        found = subprocess.run(["ps", "--ppid", web, "-o", "args="], capture_output=True, text=True, check=False)
        return [line for line in found.stdout.splitlines() if "video_child" in line]

    wait_until(lambda: not decoders(), within_s=60)


def test_a_swap_in_mid_video_judges_the_whole_by_one_version(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    needs_package("av")
    author = Author(tmp_path / "efs")
    author.publish(small_video_model(tmp_path_factory.mktemp("one")), "judge", task=None)
    settings = {"MODEL_API_EFS_ROOT": tmp_path / "efs", "MODEL_API_PRECISION": "float32"}
    jobs = {"MODEL_API_JOBS_DIR": tmp_path / "jobs"}
    with server(tmp_path / "idle", MODEL_API_JOBS_AT_ONCE=0, **jobs, **settings) as idle:
        idle.wait_until_ready()
        waiting = upload(idle, encoded(40), job={"kind": "video-regression"})["job"]
        old = idle.get("/models/judge").json()["digest"]
    network, config = small_network(widths=[8, 24])
    save_network(tmp_path / "two", network, config)
    author.publish(tmp_path / "two", "judge", task=None)
    with server(tmp_path / "working", **jobs, **settings) as api:
        api.wait_until_ready()
        job = finished(api, waiting)
        assert (job["status"], job["version"]) == ("succeeded", "2"), job.get("error")
        assert job["digest"] == job["result"]["digest"] != old
