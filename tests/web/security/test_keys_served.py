"""Keys on real servers: known, revoked and owned everywhere, whatever becomes of the file."""

import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.rigs.api import Api
from tests.rigs.keyed import KeyStore, bearer
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
BODY = {"model": "tiny", "inputs": ["a b c"]}
EVERYWHERE_S = 5.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> KeyStore:
    root = tmp_path_factory.mktemp("keyed") / "efs"
    shutil.copytree(tiny_store, root)
    return KeyStore(root)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, store: KeyStore) -> Iterator[list[Server]]:
    """Two instances that ask for keys, with the polling that is usual."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    settings = {"MODEL_API_EFS_ROOT": store.layout.root, "MODEL_API_AUTH": "required", "MODEL_API_POLL_S": 2}
    with server(one, **settings) as first, server(two, **settings) as second:
        for api in (first, second):
            api.wait_until_ready()
        yield [first, second]


def status(api: Api, token: str) -> int:
    return api.post("/predict", BODY, **bearer(token)).status


def answers(api: Api, token: str, wanted: int) -> bool:
    return status(api, token) == wanted


def tells(api: Api, keys: str) -> bool:
    """Whether /readyz says so of keys.json."""
    return keys in api.get("/readyz").json()["keys"]


def wait_for(fleet: list[Server], token: str, wanted: int) -> float:
    """Seconds until every instance answers so."""
    began = time.monotonic()
    for api in fleet:
        wait_until(partial(answers, api, token, wanted), within_s=EVERYWHERE_S, what=f"{wanted} everywhere")
    return time.monotonic() - began


def test_a_key_is_known_and_revoked_everywhere_within_seconds(fleet: list[Server], store: KeyStore) -> None:
    token, other = store.create("predict"), store.create("predict")
    wait_for(fleet, token, 200)
    wait_for(fleet, other, 200)
    store.revoke(token)
    wait_for(fleet, token, 401)
    assert [status(api, other) for api in fleet] == [200, 200]
    assert fleet[0].get("/readyz").json()["keys"] == "ok"


def test_the_log_names_the_caller_and_never_the_key(fleet: list[Server], store: KeyStore) -> None:
    token = store.create("predict")
    wait_for(fleet, token, 200)
    lines = [line for line in fleet[0].log_records() if line.get("caller") == token[:15]]
    assert lines
    assert lines[-1]["path"] == "/predict"
    assert token[16:] not in fleet[0].log_path.read_text()


def test_a_job_is_its_caller_s_alone(fleet: list[Server], store: KeyStore) -> None:
    mine, another = store.create("jobs", "predict"), store.create("jobs", "predict")
    wait_for(fleet, mine, 200)
    wait_for(fleet, another, 200)
    api = fleet[0]
    job = api.post("/jobs", {"kind": "predict", **BODY}, **bearer(mine))
    assert job.status == 202
    path = job.headers["location"]
    done = api.get(f"{path}?wait=20", **bearer(mine)).json()
    assert done["status"] == "succeeded"
    for theirs in (path, path + "/result"):
        assert api.get(theirs, **bearer(another)).status == 404
        assert api.get(theirs).status == 401
    assert [one["id"] for one in api.get("/jobs", **bearer(mine)).json()["jobs"]] == [done["id"]]
    assert api.get("/jobs", **bearer(another)).json()["jobs"] == []
    # The same work of another caller is a job of its own.
    theirs_job = api.post("/jobs", {"kind": "predict", **BODY}, **bearer(another)).json()
    assert theirs_job["id"] != done["id"]


def test_a_key_for_one_model_asks_no_other_in_any_way(fleet: list[Server], store: KeyStore) -> None:
    token = store.create("predict", "jobs", models=("tiny",))
    wait_for(fleet, token, 200)
    api = fleet[0]
    asked = [
        ("/predict", {"model": "second", "inputs": ["a"]}),
        ("/predict", {"model": "second@1", "inputs": ["a"]}),
        ("/sim", {"target": "a", "texts": ["b"], "model": "second"}),
        ("/v1/embeddings", {"model": "second", "input": "a"}),
        ("/jobs", {"kind": "predict", "model": "second", "inputs": ["a"]}),
        ("/jobs", {"kind": "sim", "model": "second", "inputs": {"target": "a", "texts": ["b"]}}),
        ("/score", {"model": "second", "targets": ["a"], "inputs": ["a"]}),
        ("/uploads", {"content_type": "text/csv", "job": {"kind": "file", "model": "second"}}),
    ]
    for path, body in asked:
        answer = api.post(path, body, **bearer(token))
        assert answer.status == 403, (path, answer.body)
    later = api.post("/predict", {"model": "second", "inputs": ["a"]}, Prefer="respond-async", **bearer(token))
    assert later.status == 403
    assert api.post("/jobs", {"kind": "predict", **BODY}, **bearer(token)).status in (200, 202)


def test_a_file_that_breaks_or_goes_locks_nobody_out_and_lets_nobody_in(
    fleet: list[Server], store: KeyStore, tmp_path: Path
) -> None:
    good, revoked = store.create("predict"), store.create("predict")
    wait_for(fleet, good, 200)
    store.revoke(revoked)
    wait_for(fleet, revoked, 401)
    api, keys = fleet[0], store.layout.keys
    kept = keys.read_bytes()
    try:
        for data in (b"{", None):
            keys.unlink() if data is None else keys.write_bytes(data)
            told = "there is no keys.json" if data is None else "not JSON"
            wait_until(partial(tells, api, told), within_s=EVERYWHERE_S, what="a broken file told")
            assert status(api, good) == 200
            assert status(api, revoked) == 401
            assert api.post("/predict", BODY).status == 401
    finally:
        keys.write_bytes(kept)
    assert any(line["message"].startswith("keys.json can't be read") for line in api.log_records())
    wait_until(partial(tells, api, "ok"), within_s=EVERYWHERE_S, what="a mended file")


def test_a_restart_without_the_store_knows_who_may_call(tmp_path: Path, tiny_store: Path) -> None:
    shutil.copytree(tiny_store, tmp_path / "efs")
    store = KeyStore(tmp_path / "efs")
    token, revoked = store.create("predict"), store.create("predict")
    store.revoke(revoked)
    settings = {"MODEL_API_EFS_ROOT": tmp_path / "efs", "MODEL_API_AUTH": "required"}
    with server(tmp_path / "api", **settings) as api:
        api.wait_until_ready()
        wait_until(lambda: status(api, token) == 200, within_s=EVERYWHERE_S, what="a key that is known")
    (tmp_path / "efs").rename(tmp_path / "away")
    with server(tmp_path / "api", **settings) as api:
        api.wait_for_status("/readyz", 200)
        assert status(api, token) == 200
        assert status(api, revoked) == 401
        assert "not mounted" in api.get("/readyz").json()["keys"]
    shutil.rmtree(tmp_path / "api" / "store")
    with server(tmp_path / "api", **settings) as api:  # a new instance, which never saw it
        assert status(api, token) == 503
        assert api.post("/predict", BODY).status == 401


def test_tokens_are_limited_whichever_way_they_are_asked_for(fleet: list[Server], store: KeyStore) -> None:
    """By /predict, by /sim, and by a job, whose tokens count when it runs."""
    api = fleet[0]
    probe = store.create("predict")
    wait_for([api], probe, 200)
    n_tokens = api.post("/predict", BODY, **bearer(probe)).json()["usage"]["tokens"]
    token = store.create("predict", "jobs", rates=f"{3 * n_tokens} tokens/day, 100/minute")
    wait_until(partial(knows, api, token), within_s=EVERYWHERE_S, what="a key that is known")
    first = api.post("/predict", BODY, **bearer(token))
    assert first.headers["ratelimit-remaining"] == str(2 * n_tokens)
    job = api.post("/jobs", {"kind": "predict", "model": "tiny", "inputs": ["a b d"]}, **bearer(token))
    assert api.get(f"{job.headers['location']}?wait=20", **bearer(token)).json()["status"] == "succeeded"
    assert api.post("/predict", {"model": "second", "inputs": ["a"]}, **bearer(token)).status == 200  # has its own
    last = api.post("/predict", BODY, **bearer(token))
    assert (last.status, last.headers["ratelimit-remaining"]) == (200, "0")
    for path, body in (
        ("/predict", BODY),
        ("/sim", {"target": "a", "texts": ["b"], "model": "tiny"}),
        ("/jobs", {"kind": "predict", **BODY}),
    ):
        over = api.post(path, body, **bearer(token))
        assert (over.status, over.json()["type"]) == (429, "/problems/too-many-requests"), path
        assert int(over.headers["retry-after"]) >= 1


def knows(api: Api, token: str) -> bool:
    """Whether the key is good there; costs none of its limits."""
    return api.get("/jobs", **bearer(token)).status == 200
