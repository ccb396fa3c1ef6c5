"""No secret is seen anywhere: over a real server with every secret that a setting can hold, asked in every way.

Looked through are the log at its most talkative, every header and body, the metrics, the pages, the files that the
instance writes for others, and the list of processes.
"""

import base64
import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import jwt
import pytest

from model_api.publishing import keys
from model_api.repository.keys import SCOPES, hash_of
from tests.rigs.api import Response
from tests.rigs.free_port import free_port
from tests.rigs.keyed import KeyStore, bearer
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
MARK = "s3cr3t"
OPERATOR = f"operator-{MARK}-0123456789"
JWT_SECRET = f"tokens-{MARK}-0123456789abcdef0123456789"
FIRST = f"first-{MARK}-" + "x" * 43
PASSWORD = f"passw0rd-{MARK}"


class Leaks:
    """A server, its secrets, and all that it said."""

    def __init__(self, folder: Path, api: Server, store: KeyStore) -> None:
        self.folder, self.api, self.store = folder, api, store
        self.good, self.revoked = store.create(*SCOPES, rates="1000/day"), store.create("predict")
        self.narrow = store.create("history", models=("second",))
        self.expired = store.create("predict", expires=time.time() + 0.1)
        store.revoke(self.revoked)
        now = int(time.time())
        body = {"sub": "alice", "exp": now + 600, "scope": "predict jobs status operate"}
        self.token = jwt.encode(body, JWT_SECRET, "HS256")
        self.stale = jwt.encode({**body, "exp": now - 600}, JWT_SECRET, "HS256")
        self.forged = jwt.encode(body, f"another-{MARK}-0123456789abcdef012345", "HS256")
        self.said: list[bytes] = []

    @property
    def callers(self) -> dict[str, str]:
        """Whatever may be sent as a key."""
        named = ("good", "revoked", "narrow", "expired", "token", "stale", "forged")
        more = {"operator": OPERATOR, "first": f"mk_first_{FIRST}", "cut": self.good[:-3], "unknown": "mk_" + MARK * 9}
        return {**{name: getattr(self, name) for name in named}, **more}

    @property
    def secrets(self) -> set[bytes]:
        """What must be seen nowhere, also without its id, encoded, or hashed as the file has it."""
        texts = {OPERATOR, JWT_SECRET, FIRST, PASSWORD, MARK, *self.callers.values()}
        texts |= {key[16:] for key in (self.good, self.revoked, self.narrow, self.expired)}
        texts |= {hash_of(text) for text in texts}
        texts |= {token.rpartition(".")[2] for token in (self.token, self.stale, self.forged)}
        coded = {base64.b64encode(text.encode()) for text in texts}
        return {text.encode() for text in texts} | coded

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        with closing(self.api.client()) as client:
            answer = client.ask(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        self.said += [json.dumps(dict(answer.headers)).encode(), answer.body]
        return answer

    def expect_none(self, where: str, data: bytes) -> None:
        for secret in self.secrets:
            at = data.find(secret)
            assert at < 0, f"{where} holds a secret: …{data[max(0, at - 200) : at]!r}"


@pytest.fixture(scope="module")
def leaks(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Leaks]:
    folder = tmp_path_factory.mktemp("leaks")
    shutil.copytree(tiny_store, folder / "efs")
    store = KeyStore(folder / "efs")
    nowhere = free_port()  # what can't be reached is complained about
    settings = {
        "MODEL_API_EFS_ROOT": folder / "efs",
        "MODEL_API_JOBS_DIR": folder / "jobs",
        "MODEL_API_AUTH": "required",
        "MODEL_API_LOG_LEVEL": "DEBUG",
        "MODEL_API_OPERATOR_KEY": OPERATOR,
        "MODEL_API_FIRST_KEY": f"mk_first:{hash_of(FIRST)}",
        "MODEL_API_JWT_SECRET": JWT_SECRET,
        "MODEL_API_CACHE": f"redis://user:{PASSWORD}@127.0.0.1:{nowhere}/0",
        "MODEL_API_CACHE_SECRET": f"cache-{MARK}-0123456789abcdef0123456789",
        "MODEL_API_NOTIFY_SECRET": f"notices-{MARK}-0123456789abcdef0123456789",
        "MODEL_API_DATABASE_URL": f"postgresql://user:{PASSWORD}@127.0.0.1:{nowhere}/history",
        "MODEL_API_LOG_PREDICTIONS": "full",
    }
    with server(folder / "api", **settings) as api:
        made = Leaks(folder, api, store)
        api.wait_until_ready()
        known = {"Authorization": f"Bearer {made.good}"}
        wait_until(lambda: api.get("/jobs", **known).status == 200, within_s=10, what="keys that are known")
        ask_in_every_way(made)
        yield made


def ask_in_every_way(leaks: Leaks) -> None:
    document = json.loads(leaks.ask("GET", "/openapi.json").body)
    paths = [(method.upper(), path) for path, operations in document["paths"].items() for method in operations]
    statuses = set()
    for caller in leaks.callers.values():
        basic = "Basic " + base64.b64encode(f"user:{caller}".encode()).decode()
        for headers in (bearer(caller), {"X_Api_Key": caller}, {"Authorization": basic}):
            for method, path in paths:
                body = {"model": "tiny", "inputs": ["a"], "target": "a", "texts": ["b"]} if method == "POST" else None
                path = path.replace("{name}", "tiny").replace("{id}", "0" * 64)
                statuses.add(leaks.ask(method, path, body, **headers).status)
            statuses.add(leaks.ask("POST", "/predict", {"model": "tiny", "inputs": ["a b"]}, **headers).status)
    sent = bearer(leaks.good)
    # Mistakes that people make with keys.
    for path in (f"/predict?api_key={leaks.good}", f"/predict?access_token={leaks.token}"):
        statuses.add(leaks.ask("POST", path, {"model": "tiny", "inputs": ["a"]}).status)
    statuses.add(leaks.ask("POST", "/predict", "no object", **sent).status)
    statuses.add(leaks.ask("POST", "/predict", {"model": "tiny", "inputs": [1]}, **sent).status)
    statuses.add(
        leaks.ask("POST", "/predict", {"model": "tiny", "inputs": ["a"]}, Content_Type="text/plain", **sent).status
    )
    job = {"kind": "predict", "model": "tiny", "inputs": ["a"], "notify": f"https://u:{PASSWORD}@127.0.0.1/x"}
    statuses.add(leaks.ask("POST", "/jobs", job, **sent).status)
    statuses.add(leaks.ask("GET", "/", Accept="text/html", **sent).status)
    for raw in (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {leaks.good}\r\nContent-Length: x\r\n\r\n",
        f"GET /models HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {leaks.good}\r\n\r\n",
        f"GET /models HTTP/9.9\r\nHost: x\r\nAuthorization: Bearer {leaks.good}\r\n\r\n",
    ):
        with closing(socket.create_connection(("127.0.0.1", leaks.api.port), 10)) as connection:
            connection.sendall(raw.encode())
            with suppress(OSError, http.client.HTTPException):
                leaks.said.append(connection.recv(65536))
    assert {200, 401, 403, 404, 415, 422} <= statuses
    assert 500 not in statuses


def test_a_leak_would_be_seen(leaks: Leaks) -> None:
    for leaked in (leaks.good, leaks.good[16:], hash_of(leaks.good[16:]), OPERATOR, leaks.token, PASSWORD):
        with pytest.raises(AssertionError, match="holds a secret"):
            leaks.expect_none("it", b"before " + leaked.encode() + b" after")


def test_no_answer_holds_one(leaks: Leaks) -> None:
    assert len(leaks.said) > 500
    leaks.expect_none("an answer", b"\n".join(leaks.said))


def test_the_log_holds_none_but_says_who_called(leaks: Leaks) -> None:
    leaks.expect_none("the log", leaks.api.log_path.read_bytes())
    callers = {line.get("caller") for line in leaks.api.log_records()}
    assert {leaks.good[:15], "mk_first", "operator", "jwt:alice"} <= callers


def test_metrics_hold_none(leaks: Leaks) -> None:
    answer = leaks.ask("GET", "/metrics", **bearer(leaks.good))
    assert answer.status == 200
    leaks.expect_none("/metrics", answer.body)


def test_files_for_others_hold_none(leaks: Leaks) -> None:
    """What the instance writes onto the shared file system, and its local store; keys.json has hashes alone."""
    looked_at = 0
    hashes = {key.sha256.encode() for key in keys.read(leaks.store.layout).by_id.values()}
    for root in (leaks.store.layout.statuses, leaks.folder / "api" / "store"):
        for file in root.rglob("*"):
            if file.is_file() and file.stat().st_size < 2**20:
                data = file.read_bytes()
                if file.name.endswith(".keys.json"):
                    assert file.stat().st_mode & 0o022 == 0
                    for hashed in hashes:
                        data = data.replace(hashed, b"")
                leaks.expect_none(str(file), data)
                looked_at += 1
    assert looked_at > 3
    stored = leaks.store.layout.keys.read_bytes()
    for hashed in hashes:
        stored = stored.replace(hashed, b"")
    leaks.expect_none("keys.json", stored)


def test_the_list_of_processes_holds_none(leaks: Leaks) -> None:
    pids = leaks.api.pids()
    assert len(pids) >= 3
    for pid in pids:
        for what in ("cmdline", "comm", "status"):
            with suppress(FileNotFoundError, ProcessLookupError):
                leaks.expect_none(f"/proc/{pid}/{what}", Path(f"/proc/{pid}/{what}").read_bytes())
