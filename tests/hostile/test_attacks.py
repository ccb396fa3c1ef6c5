"""Whatever one caller does, health is answered, another caller is served, memory is bounded: directly, without nginx.

The attacks themselves are in tests/rigs/attacks.py; `python -m benchmarks.attacks` measures under them.
"""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from model_api.errors import SettingsError
from model_api.settings import Settings
from model_api.web.server import limits
from tests.needs import needs
from tests.rigs.attacks import ATTACKS, attack
from tests.rigs.bystander import bystander
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
MAX_WEB_BYTES = 640 << 20


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Server]:
    settings = {"MODEL_API_EFS_ROOT": tiny_store, "MODEL_API_MODELS": "tiny", "MODEL_API_CACHE": "memory"}
    with server(tmp_path_factory.mktemp("api"), **settings) as api:
        api.wait_until_ready()
        yield api


@pytest.mark.parametrize("name", ATTACKS)
def test_health_and_another_caller_go_on(api: Server, name: str) -> None:
    web = api.pids_by_role()["web"]
    with attack(name, api.port), bystander(api) as seen:
        wait_until(lambda: len(seen.health_s) >= 30 and seen.answers.total() >= 20, within_s=120)
    assert not seen.unhealthy
    assert set(seen.answers) == {200}, seen.answers
    assert seen.peak_bytes < MAX_WEB_BYTES
    assert api.pids_by_role()["web"] == web


def test_silence_and_half_a_head_end_by_themselves(api: Server) -> None:
    with ExitStack() as connections:
        silent, half, old = (
            connections.enter_context(socket.create_connection(("127.0.0.1", api.port), timeout=60)) for _ in range(3)
        )
        half.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: ")
        old.sendall(b"GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n")
        assert b"200 OK" in old.recv(4096)
        assert old.recv(4096) == b""  # at once: HTTP/1.0 keeps nothing open
        assert silent.recv(4096) == b""
        assert half.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_without_any_file_left_to_open_the_worker_goes_on(api: Server) -> None:
    (web,) = api.pids_by_role()["web"]
    before = resource.prlimit(web, resource.RLIMIT_NOFILE)
    with ExitStack() as connections:
        n_open = len(list(Path(f"/proc/{web}/fd").iterdir()))
        resource.prlimit(web, resource.RLIMIT_NOFILE, (n_open + 20, before[1]))
        try:
            for _ in range(60):  # the kernel completes them all; the server can't take them
                connections.enter_context(socket.create_connection(("127.0.0.1", api.port), timeout=20))
            wait_until(lambda: any("accepted" in record["message"] for record in api.log_records()))
        finally:
            resource.prlimit(web, resource.RLIMIT_NOFILE, before)
        assert api.get("/healthz").status == 200
    assert api.pids_by_role()["web"] == [web]


def test_a_low_limit_of_open_files_bounds_connections_and_not_health(tmp_path: Path, tiny_store: Path) -> None:
    needs("prlimit")
    settings = {"MODEL_API_EFS_ROOT": tiny_store, "MODEL_API_MODELS": "tiny"}
    with closing(Server(tmp_path, settings, launcher=("prlimit", "--nofile=1024:1024"))) as api:
        api.start()
        api.wait_until_ready()
        with attack("idle_connections", api.port), bystander(api) as seen:
            wait_until(lambda: len(seen.health_s) >= 30 and seen.answers.total() >= 20, within_s=120)
        assert not seen.unhealthy
        assert set(seen.answers) == {200}


def test_a_queue_that_the_open_files_can_not_serve_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "allowed_files", lambda: 1024)
    assert limits.server_limits(Settings()).connections == 1024 - limits.FILES_IN_RESERVE
    with pytest.raises(SettingsError, match="MODEL_API_MAX_QUEUE_ENTRIES=2000: needs 2272 open files, 1024 are"):
        limits.server_limits(Settings(max_queue_entries=2000, max_connections=5000))
    with pytest.raises(SettingsError, match="MODEL_API_MAX_CONNECTIONS must be"):
        limits.server_limits(Settings(max_queue_entries=100, max_connections=50))
