"""Callers as they come: curl, requests, OpenAI's way, this project's commands and client; and through nginx."""

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from model_api_client import Client, Unauthenticated

from tests.rigs.keyed import KeyStore, bearer
from tests.rigs.nginx import nginx
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
BODY = {"model": "tiny", "inputs": ["a b c"]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> KeyStore:
    root = tmp_path_factory.mktemp("keyed") / "efs"
    shutil.copytree(tiny_store, root)
    return KeyStore(root)


@pytest.fixture(scope="module")
def token(store: KeyStore) -> str:
    return store.create("predict", "jobs")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, store: KeyStore, token: str) -> Iterator[Server]:
    """Behind nginx, as on Beanstalk, though it can be asked past it."""
    settings = {"MODEL_API_AUTH": "required", "MODEL_API_PROXY_HOPS": 1, "MODEL_API_EFS_ROOT": store.layout.root}
    with server(tmp_path_factory.mktemp("api"), **settings) as running:
        running.wait_until_ready()
        wait_until(lambda: running.get("/jobs", **bearer(token)).status == 200, within_s=10, what="a known key")
        yield running


def curl(*arguments: str) -> tuple[int, str]:
    command = ["curl", "-q", "--silent", "--noproxy", "*", "--write-out", "\n%{http_code}", *arguments]
    body, _, status = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rpartition("\n")
    return int(status), body


def test_curl(api: Server, token: str) -> None:
    post = ("-H", "Content-Type: application/json", "-d", json.dumps(BODY), f"{api.url}/predict")
    assert curl("-H", f"Authorization: Bearer {token}", *post)[0] == 200
    assert curl("-H", f"X-Api-Key: {token}", *post)[0] == 200
    assert curl("--oauth2-bearer", token, *post)[0] == 200
    assert curl("--user", f"anybody:{token}", *post)[0] == 200
    assert curl("--user", f"{token[:15]}:{token[16:]}", *post)[0] == 200
    assert curl("--anyauth", "--user", f"anybody:{token}", *post)[0] == 200  # waits to be asked for a password
    status, body = curl("--user", "anybody:wrong", *post)
    assert (status, json.loads(body)["type"]) == (401, "/problems/unauthenticated")


def test_basic_auth_of_requests(api: Server, token: str) -> None:
    assert requests.post(f"{api.url}/predict", json=BODY, auth=("user", token), timeout=30).status_code == 200
    assert requests.post(f"{api.url}/predict", json=BODY, auth=("user", "password"), timeout=30).status_code == 401


def test_this_project_s_client(api: Server, token: str) -> None:
    with Client(api.url, api_key=token) as client:
        assert len(client.predict("tiny", ["a b c"]).predictions) == 1
    with Client(api.url, api_key="mk_wrong") as client, pytest.raises(Unauthenticated):
        client.predict("tiny", ["a b c"])


@pytest.mark.parametrize("more", [(), ("--job",)])
def test_scripts_predict(more: tuple[str, ...], api: Server, token: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\na b\nc d\n")

    def predict(key: str) -> subprocess.CompletedProcess[str]:
        asked = ("--model", "tiny", "--column", "text", "--url", api.url)
        command = [str(ROOT / "scripts/predict"), "in.csv", *asked, *more]
        environment = {**os.environ, "MODEL_API_KEY": key}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    without = predict("")
    assert without.returncode == 3, without.stderr
    assert "send a key with the scope" in without.stderr
    done = predict(token)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "in.predictions.csv").read_text().count("\n") == 3
    assert token not in done.stderr + done.stdout


def test_what_comes_through_nginx_is_never_from_here(api: Server, token: str, tmp_path: Path) -> None:
    """The instance itself may look at the metrics without a key; callers can't look like it."""
    assert api.get("/metrics").status == 200
    with nginx(tmp_path / "nginx", api.port) as port:
        for forged in ({}, {"X-Forwarded-For": ""}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
            for path in ("/metrics", "/models", "/mount_check"):
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                    connection.request("GET", path, headers=forged)
                    assert connection.getresponse().status == 401, (path, forged)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            headers = {"Content-Type": "application/json", **bearer(token)}
            connection.request("POST", "/predict", json.dumps(BODY), headers)
            assert connection.getresponse().status == 200
