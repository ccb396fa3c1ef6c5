"""The same through Beanstalk's nginx with the project's files in it, as a balancer's health check sees it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.attacks import ATTACKS, attack
from tests.rigs.bystander import bystander
from tests.rigs.nginx import behind_nginx
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("behind")
    settings = {"MODEL_API_EFS_ROOT": tiny_store, "MODEL_API_MODELS": "tiny", "MODEL_API_PROXY_HOPS": 1}
    with server(folder / "api", **settings) as own:
        own.wait_until_ready()
        with behind_nginx(own, folder) as api:
            yield api


@pytest.mark.parametrize("name", ATTACKS)
def test_health_and_another_caller_go_on(api: Server, name: str) -> None:
    web = api.pids_by_role()["web"]
    with attack(name, api.port), bystander(api) as seen:
        wait_until(lambda: len(seen.health_s) >= 30 and seen.answers.total() >= 20, within_s=120)
    assert not seen.unhealthy
    assert set(seen.answers) == {200}, seen.answers
    assert api.pids_by_role()["web"] == web
