"""What the application answers is what comes out of Beanstalk's nginx, route by route."""

import http.client
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.rigs.nginx import behind_nginx
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Server]:
    settings = {"MODEL_API_EFS_ROOT": tiny_store, "MODEL_API_MODELS": "tiny", "MODEL_API_PROXY_HOPS": 1}
    with server(tmp_path_factory.mktemp("alone"), **settings) as api:
        api.wait_until_ready()
        yield api


@pytest.fixture(scope="module")
def proxied(alone: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with behind_nginx(alone, tmp_path_factory.mktemp("nginx")) as api:
        yield api


def test_every_route_answers_alike(alone: Server, proxied: Server) -> None:
    """With and without a slash at the end."""
    operations = {
        (method.upper(), re.sub(r"{\w+}", "x", path) + slash)
        for path, methods in alone.get("/openapi.json").json()["paths"].items()
        for method in methods
        for slash in ("", "/")
        if path != "/"
    }
    assert len(operations) > 30
    with closing(alone.client()) as here, closing(proxied.client()) as there:
        for method, path in sorted(operations):
            seen = [one.ask(method, path, {} if method in ("POST", "PUT") else None) for one in (here, there)]
            assert seen[0].status == seen[1].status, f"{method} {path}"
            assert seen[0].headers["content-type"] == seen[1].headers["content-type"], f"{method} {path}"
            assert seen[1].status < 300 or seen[1].status >= 400, f"{method} {path}"


def test_an_upload_is_announced_and_sent(proxied: Server) -> None:
    announced = proxied.post("/uploads", {"content_type": "text/csv", "size": 3})
    assert announced.status == 201
    document = announced.json()
    with closing(http.client.HTTPConnection("127.0.0.1", proxied.port, timeout=30)) as connection:
        path = document["url"].partition("://")[2].partition("/")[2]
        connection.request("PUT", f"/{path}", b"a\nb", document["headers"])
        sent = connection.getresponse()
        assert sent.status < 300, sent.read()
    assert proxied.get(f"/uploads/{document['id']}").json()["status"] == "accepted"
