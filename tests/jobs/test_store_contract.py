"""One suite for every place where jobs are noted and their objects lie."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model_api.jobs import job as states
from model_api.jobs.fleet.objects import S3Objects
from model_api.jobs.fleet.records import DynamoRecords
from model_api.jobs.job import Job, Payload, Status
from model_api.jobs.objects import FileObjects, ObjectExists, ObjectGone, Objects, Signer, new_key, owner_of, put, read
from model_api.jobs.records import Listing, Records, SqliteRecords
from tests.rigs.fleet import OPTIONS, Cloud, cloud

NOW = 1_800_000_000.0


def a_job(name: str = "a", **changes: object) -> Job:
    made = Job(
        id=name * 64,
        kind="predict",
        work=Payload(2, inline="{}"),
        fingerprint=name,
        ttl_s=100.0,
        created=NOW,
        expires=NOW + 100,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["embedded", "fleet"])
def where(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud | None]:
    """None: embedded."""
    if request.param == "embedded":
        yield None
        return
    with cloud(tmp_path_factory.mktemp("aws")) as found:
        yield found


@pytest.fixture
def records(where: Cloud | None, tmp_path: Path) -> Iterator[Records]:
    opened: Records
    if where is None:
        opened = SqliteRecords(tmp_path / "jobs.sqlite", lambda: NOW)
    else:
        opened = DynamoRecords(where.new_table(), lambda: NOW, endpoint_url=where.dynamodb_url, **OPTIONS)
    yield opened
    opened.close()


@pytest.fixture
def objects(where: Cloud | None, tmp_path: Path) -> Objects:
    if where is None:
        return FileObjects(tmp_path / "objects", Signer(b"secret"))
    return S3Objects(where.new_bucket(), endpoint_url=where.moto_url, **OPTIONS)


def test_a_job_is_kept_as_it_is(records: Records) -> None:
    job = a_job(result=Payload(3, key="results/x", file_name="a.csv"), error={"detail": "ä"}, notify="https://a.b")
    assert records.add(job)
    assert records.get(job.id) == job
    assert records.get("b" * 64) is None


def test_what_is_there_is_not_added_again(records: Records) -> None:
    assert records.add(a_job())
    assert not records.add(a_job(kind="sim"))
    found = records.get("a" * 64)
    assert found is not None
    assert found.kind == "predict"


def test_only_who_read_the_newest_may_write(records: Records) -> None:
    old = a_job()
    records.add(old)
    new = replace(old, revision=1, kind="new")
    assert records.swap(old, new)
    assert not records.swap(old, replace(old, revision=1, kind="late"))
    assert records.get(old.id) == new
    assert not records.remove(old)
    assert records.remove(new)
    assert records.get(old.id) is None
    assert not records.swap(new, replace(new, revision=2))


def test_of_many_who_claim_at_once_one_has_it(records: Records) -> None:
    job = a_job()
    records.add(job)
    won: list[str] = []

    def claim(worker: str) -> None:
        claimed = states.claim(job, worker, NOW)
        if claimed is not None and records.swap(job, claimed):
            won.append(worker)

    threads = [threading.Thread(target=claim, args=(str(i),)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    found = records.get(job.id)
    assert found is not None
    assert found.worker == won[0]


def test_ready_are_those_that_may_start_in_the_order_they_were_asked_for(records: Records) -> None:
    jobs = [
        a_job("1", created=NOW - 1),
        a_job("2", created=NOW - 5),
        a_job("3", created=NOW - 9, ready_at=NOW + 5),
        a_job("4", created=NOW - 3, ready_at=NOW - 1),
        a_job("5", expires=NOW - 1),
        a_job("6", status=Status.RUNNING, expires=None),
        a_job("7", created=NOW - 2, ready_at=NOW + 4000),  # of a clock that was wrong
    ]
    for job in jobs:
        records.add(job)
    assert [job.id[0] for job in records.ready(NOW, 10)] == ["2", "4", "7", "1"]
    assert [job.id[0] for job in records.ready(NOW, 2)] == ["2", "4"]
    assert [job.id[0] for job in records.running(10)] == ["6"]
    assert records.count_waiting() == 6


def test_what_expires_is_found_and_then_remembered(records: Records) -> None:
    jobs = [
        a_job("1", expires=NOW),
        a_job("2", expires=NOW + 1),
        a_job("3", status=Status.RUNNING, expires=None),
        a_job("4", status=Status.EXPIRED, expires=NOW - 50),
        a_job("5", status=Status.SUCCEEDED, expires=NOW - 1, result=Payload(1, inline="1")),
    ]
    for job in jobs:
        records.add(job)
    assert sorted(job.id[0] for job in records.expiring(NOW, 10)) == ["1", "5"]
    assert [job.id[0] for job in records.expired(NOW - 10, 10)] == ["4"]
    assert not records.expired(NOW - 50, 10)


def test_notices_are_found_when_they_are_due(records: Records) -> None:
    for job in (a_job("1", notify_at=NOW), a_job("2", notify_at=NOW + 1), a_job("3"), a_job("4", notify_at=NOW - 9)):
        records.add(job)
    assert [job.id[0] for job in records.to_notify(NOW, 10)] == ["4", "1"]


def test_pages_are_of_one_owner_newest_first(records: Records) -> None:
    for i in range(5):
        records.add(a_job(str(i), owner="me", created=NOW + i, kind="sim" if i % 2 else "predict"))
    records.add(a_job("9", owner="you"))
    first = records.page(Listing("me", limit=2), NOW)
    assert [job.id[0] for job in first] == ["4", "3"]
    second = records.page(Listing("me", limit=2, after=(first[-1].created, first[-1].id)), NOW)
    assert [job.id[0] for job in second] == ["2", "1"]
    assert [job.id[0] for job in records.page(Listing("me", kind="sim"), NOW)] == ["3", "1"]
    assert [job.id[0] for job in records.page(Listing("you"), NOW)] == ["9"]


def test_pages_by_status_are_as_callers_see_it(records: Records) -> None:
    for job in (
        a_job("1"),
        a_job("2", expires=NOW - 1),
        a_job("3", status=Status.EXPIRED, expires=NOW - 9),
        a_job("4", status=Status.RUNNING, expires=None),
        a_job("5", status=Status.FAILED),
    ):
        records.add(job)

    def listed(status: Status) -> list[str]:
        return sorted(job.id[0] for job in records.page(Listing("", status=status), NOW))

    assert listed(Status.QUEUED) == ["1"]
    assert listed(Status.EXPIRED) == ["2", "3"]
    assert listed(Status.RUNNING) == ["4"]
    assert listed(Status.FAILED) == ["5"]


@pytest.mark.parametrize("content", [b"", b"\0\n\xff" * 100, b"x" * 3_000_000], ids=["empty", "binary", "megabytes"])
def test_objects_keep_bytes(objects: Objects, content: bytes) -> None:
    key = new_key("results", "abc")
    put(objects, key, content)
    assert read(objects, key) == content
    assert owner_of(key) == "abc"
    objects.remove(key)
    objects.remove(key)
    with pytest.raises(ObjectGone):
        read(objects, key)


def test_an_object_appears_whole_or_not_at_all(objects: Objects) -> None:
    key = new_key("results", "abc")
    with contextlib.suppress(ZeroDivisionError), objects.writer(key, "text/csv") as stream:
        stream.write(b"half")
        stream.write(bytes(1 // 0))
    with pytest.raises(ObjectGone):
        read(objects, key)
    assert list(objects.old_keys("results", -1)) == []


def test_an_object_is_read_by_lines_too(objects: Objects) -> None:
    key = new_key("results", "abc")
    lines = [b"%d\n" % i for i in range(3000)]
    put(objects, key, b"".join(lines))
    with objects.reader(key) as stream:
        assert list(stream) == lines


def test_an_object_is_never_written_over(objects: Objects, tmp_path: Path) -> None:
    key = new_key("results", "abc")
    put(objects, key, b"first")
    with pytest.raises(ObjectExists):
        put(objects, key, b"second")
    (tmp_path / "file").write_bytes(b"third")
    with pytest.raises(ObjectExists):
        objects.adopt(key, tmp_path / "file", "text/csv")
    assert read(objects, key) == b"first"


def test_a_file_becomes_an_object_and_an_object_a_file(objects: Objects, tmp_path: Path) -> None:
    key = new_key("results", "abc")
    (tmp_path / "objects").mkdir(exist_ok=True)
    (tmp_path / "objects" / "file").write_bytes(b"content")
    objects.adopt(key, tmp_path / "objects" / "file", "text/csv")
    assert not (tmp_path / "objects" / "file").exists()
    for _ in range(2):
        assert objects.as_file(key, tmp_path / "folder").read_bytes() == b"content"


def test_old_objects_are_found(objects: Objects) -> None:
    keys = {new_key("results", name) for name in ("a", "b")}
    for key in keys:
        put(objects, key, b"1")
    put(objects, new_key("work", "c"), b"1")
    assert set(objects.old_keys("results", -1)) == keys
    assert list(objects.old_keys("results", 3600)) == []
