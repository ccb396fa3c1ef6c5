"""Uploads as callers meet them: the right bytes, once, in time, and nobody else's."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.test import TestResponse

from model_api.jobs import uploads
from model_api.jobs.uploads import sniffed
from tests.jobs.conftest import Rig, open_rig

TABLE = b"id,text\n1,first\n2,second\n"


def ask(rig: Rig, **body: Any) -> dict[str, Any]:
    answer = rig.client.post("/uploads", json={"content_type": "text/csv", **body})
    assert answer.status_code == 201, answer.data
    found: dict[str, Any] = answer.get_json()
    return found


def send(rig: Rig, asked: dict[str, Any], content: bytes = TABLE, **how: Any) -> TestResponse:
    parts = urlsplit(asked["url"])
    headers = {"Content-Type": asked["headers"]["Content-Type"]}
    return rig.client.put(how.pop("path", f"{parts.path}?{parts.query}"), data=content, headers=headers, **how)


def test_what_was_asked_for_is_accepted(rig: Rig) -> None:
    digest = hashlib.sha256(TABLE).hexdigest()
    asked = ask(rig, size=len(TABLE), sha256=digest)
    assert (asked["method"], asked["headers"]["Content-Length"]) == ("PUT", str(len(TABLE)))
    assert rig.client.get(f"/uploads/{asked['id']}").get_json()["status"] == "waiting"
    sent = send(rig, asked)
    assert sent.status_code == 200, sent.data
    state = rig.client.get(f"/uploads/{asked['id']}").get_json()
    assert (state["status"], state["size"], state["sha256"]) == ("accepted", len(TABLE), digest)
    assert ask(rig)["id"] != asked["id"]


@pytest.mark.parametrize(
    ("asked", "content"),
    [
        ({"size": len(TABLE) - 1}, TABLE),
        ({"size": len(TABLE) + 1}, TABLE),
        ({"sha256": "0" * 64}, TABLE),
        ({}, b"\x00\x00\x00\x18ftypmp42" + bytes(100)),
        ({}, b"\xff\xfe\x00"),
        ({}, b""),
        ({"content_type": "video/mp4"}, TABLE),
        ({"content_type": "video/x-msvideo"}, b"RIFF\0\0\0\0WAVEfmt "),
        ({"content_type": "video/mp4"}, b"RIFF\0\0\0\0AVI LIST"),
    ],
)
def test_other_bytes_are_refused_and_dropped(rig: Rig, asked: dict[str, Any], content: bytes, tmp_path: Path) -> None:
    wanted = ask(rig, **asked)
    refused = send(rig, wanted, content)
    assert (refused.status_code, refused.get_json()["type"]) == (422, "/problems/upload-refused")
    assert list((tmp_path / "jobs" / "objects" / "uploads").glob("*")) == []
    right = {"text/csv": TABLE, "video/mp4": b"\0\0\0\x18ftypisom", "video/x-msvideo": b"RIFF\0\0\0\0AVI LIST"}
    if not asked.keys() & {"size", "sha256"}:
        assert send(rig, wanted, right[asked.get("content_type", "text/csv")]).status_code == 200


def test_a_server_that_takes_the_bytes_itself_takes_no_form(rig: Rig) -> None:
    asked = ask(rig, method="POST")
    assert (asked["method"], "fields" in asked) == ("PUT", False)
    assert send(rig, asked).status_code == 200
    refused = rig.client.post("/uploads", json={"content_type": "text/csv", "method": "GET"})
    assert (refused.status_code, refused.get_json()["errors"][0]["pointer"]) == (422, "/method")


def test_it_comes_once(rig: Rig) -> None:
    asked = ask(rig)
    assert send(rig, asked).status_code == 200
    again = send(rig, asked, b"other\nbytes\n")
    assert (again.status_code, again.get_json()["type"]) == (409, "/problems/upload-conflict")
    assert rig.client.get(f"/uploads/{asked['id']}").get_json()["size"] == len(TABLE)


def test_only_the_signed_address_takes_it(rig: Rig) -> None:
    asked, other = ask(rig), ask(rig)
    query = urlsplit(asked["url"]).query
    for path in (f"/uploads/{asked['id']}", f"/uploads/{other['id']}?{query}", f"/uploads/{asked['id']}?{query}0"):
        assert send(rig, asked, path=path).get_json()["type"] == "/problems/not-signed"
    assert rig.client.get(f"/uploads/{'0' * 64}").status_code == 404
    assert rig.client.get("/uploads/x").status_code == 404


def test_after_an_hour_it_is_too_late(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "VALID_S", 0)
    asked = ask(rig)
    assert send(rig, asked).status_code == 403
    assert rig.client.get(f"/uploads/{asked['id']}").get_json()["status"] == "expired"
    job = rig.client.post("/jobs", json={"kind": "file", "model": "minilm", "upload": asked["id"]})
    assert (job.status_code, job.get_json()["type"]) == (410, "/problems/upload-expired")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"content_type": "text/html"}, "/content_type"),
        ({"content_type": "text/csv", "size": 0}, "/size"),
        ({"content_type": "text/csv", "size": 200 * 2**20 + 1}, "/size"),
        ({"content_type": "text/csv", "sha256": "x"}, "/sha256"),
        ({"content_type": "text/csv", "name": "a.csv"}, "/name"),
        ({"content_type": "text/csv", "job": {"kind": "dance"}}, "/job/kind"),
        ({"content_type": "text/csv", "job": {"kind": "predict", "model": "m", "inputs": "x"}}, "/job/kind"),
        ({"content_type": "text/csv", "job": {"kind": "file"}}, "/job/model"),
        ({"content_type": "text/csv", "job": {"kind": "file", "model": "minilm", "ttl_s": 0}}, "/job/ttl_s"),
    ],
)
def test_what_would_not_be_accepted_is_refused_when_it_is_asked(rig: Rig, body: dict[str, Any], pointer: str) -> None:
    answer = rig.client.post("/uploads", json=body)
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["pointer"] == pointer


def test_more_than_the_limit_never_comes_in(tmp_path: Path) -> None:
    rig = open_rig(tmp_path / "jobs", max_upload_bytes=100)
    try:
        assert send(rig, ask(rig), b"a,b\n" * 26).status_code == 422
        assert send(rig, ask(rig), b"a,b\n" * 25).status_code == 200
    finally:
        rig.jobs.stop()


def test_orphans_are_dropped_and_what_a_job_waits_for_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = open_rig(tmp_path / "jobs", jobs_at_once=0)
    try:
        waited_for, orphan = ask(rig), ask(rig)
        for asked in (waited_for, orphan):
            assert send(rig, asked).status_code == 200
        job = rig.client.post("/jobs", json={"kind": "file", "model": "minilm", "upload": waited_for["id"]})
        assert job.status_code == 202, job.data
        monkeypatch.setattr(uploads, "KEEP_S", -1.0)
        used = rig.jobs.queue.uploads_waited_for()
        assert rig.jobs.parts.uploads.drop_old(lambda upload_id: upload_id in used) == 1
        assert rig.client.get(f"/uploads/{orphan['id']}").status_code == 404
        assert rig.client.get(f"/uploads/{waited_for['id']}").get_json()["status"] == "accepted"
    finally:
        rig.jobs.stop()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x14ftypqt  ", "mp4"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "mp4"),
        (b"RIFF\x10\0\0\0AVI LIST", "avi"),
        ("grüße,welt\n".encode(), "text"),
        ("ü".encode() * (uploads.SNIFF_BYTES // 2) + b"\xc3", "text"),
        (b"a,b\n\0", "unknown"),
        (b"\x89PNG\r\n\x1a\n", "unknown"),
        (b"", "unknown"),
    ],
)
def test_types_are_told_by_the_bytes(head: bytes, kind: str) -> None:
    assert sniffed(head) == kind


def test_uploads_leave_threads_for_others(tmp_path: Path) -> None:
    rig = open_rig(tmp_path / "jobs", max_queue_entries=4)
    try:
        with rig.jobs.taking_in():
            refused = send(rig, asked := ask(rig))
            assert (refused.status_code, refused.get_json()["type"]) == (503, "/problems/jobs-full")
        assert send(rig, asked).status_code == 200
    finally:
        rig.jobs.stop()
