"""The same through Beanstalk's nginx with the project's files in it, as a balancer's health check sees it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.beanstalk.test_deployment_limits import render
from tests.beanstalk.test_nginx_problems import nginx
from tests.rigs.attacks import ATTACKS, attack
from tests.rigs.bystander import bystander
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration


class ThroughNginx(Server):
    """A server that runs, asked by way of its proxy."""

    def __init__(self, api: Server, port: int) -> None:
        self.__dict__.update(api.__dict__)
        self.port = port

    def _dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 5.0)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("behind")
    settings = {"MODEL_API_EFS_ROOT": tiny_store, "MODEL_API_MODELS": "tiny", "MODEL_API_PROXY_HOPS": 1}
    with server(folder / "api", **settings) as own:
        own.wait_until_ready()
        render(folder, {"MODEL_API_PROXY_HOPS": "1"})
        callers = (folder / "nginx/conf.d/callers.conf").read_text()
        with nginx(folder / "run", own.port, callers, body_bytes=10 * 2**20, connections=4096) as port:
            yield ThroughNginx(own, port)


@pytest.mark.parametrize("name", ATTACKS)
def test_health_and_another_caller_go_on(api: Server, name: str) -> None:
    web = api.pids_by_role()["web"]
    with attack(name, api.port), bystander(api) as seen:
        wait_until(lambda: len(seen.health_s) >= 30 and seen.answers.total() >= 20, within_s=120)
    assert not seen.unhealthy
    assert set(seen.answers) == {200}, seen.answers
    assert api.pids_by_role()["web"] == web
