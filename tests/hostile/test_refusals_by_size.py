"""Every refusal reaches a caller who sends all of a large body first: alone, and through Beanstalk's nginx.

Who refuses before a body is read, and closes, takes the answer back: the caller meets a broken pipe, and a proxy makes
a 502 of it.
"""

import gzip
import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.needs import needs
from tests.rigs.nginx import behind_nginx
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
SIZES_BYTES = (200_000, 1_000_000, 3_000_000, 9_000_000)
TIMES = 3  # a race that is lost now and then is lost
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Case:
    """A request that is refused with `status`, whatever the size of its body."""

    status: int
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    pattern: str = "%s"
    """Its body; what makes it large is put in."""

    def body(self, n_bytes: int) -> bytes:
        return (self.pattern % ("x" * n_bytes)).encode()


CASES = {
    "no JSON": Case(400, "POST", "/sim"),
    "UTF-16": Case(400, "POST", "/predict", pattern="\0{%s"),
    "no gzip": Case(400, "POST", "/sim", {**JSON, "Content-Encoding": "gzip"}),
    "operator's": Case(401, "DELETE", "/cache"),
    "unknown route": Case(404, "POST", "/nowhere"),
    "unknown model": Case(404, "POST", "/predict", pattern='{"model": "nope", "inputs": ["%s"]}'),
    "unknown job": Case(404, "DELETE", "/jobs/0123456789abcdef"),
    "an upload unsigned": Case(403, "PUT", "/uploads/0123456789abcdef", {"Content-Type": "text/csv"}),
    "wrong method": Case(405, "PUT", "/sim"),
    "wrong method of a file": Case(405, "DELETE", "/openapi.json"),
    "wrong type": Case(415, "POST", "/sim", {"Content-Type": "text/plain"}),
    "no type": Case(415, "POST", "/sim", {}),
    "brotli": Case(415, "POST", "/score", {**JSON, "Content-Encoding": "br"}),
    "Latin-1": Case(415, "POST", "/jobs", {"Content-Type": "application/json; charset=latin-1"}),
    "text too long": Case(422, "POST", "/sim", pattern='{"target": "a", "texts": ["%s"]}'),
    "unknown key": Case(422, "POST", "/predict", pattern='{"model": "tiny", "inputs": ["a"], "%s": 1}'),
    "no such kind": Case(422, "POST", "/jobs", pattern='{"kind": "%s"}'),
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("alone")
    with server(folder, MODEL_API_EFS_ROOT=tiny_store, MODEL_API_PROXY_HOPS=1) as api:
        api.wait_until_ready()
        yield api


@pytest.fixture(scope="module", params=["alone", "nginx"])
def api(request: pytest.FixtureRequest, alone: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == "alone":
        yield alone
    else:
        with behind_nginx(alone, tmp_path_factory.mktemp("nginx")) as proxied:
            yield proxied


def ask(port: int, case: Case, n_bytes: int, *, chunked: bool) -> tuple[int, http.client.HTTPMessage, bytes]:
    """All of the body first, the answer then; on its way nothing may break."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        body = case.body(n_bytes)
        pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
        connection.request(
            case.method, case.path, pieces if chunked else body, dict(case.headers), encode_chunked=chunked
        )
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("n_bytes", SIZES_BYTES)
@pytest.mark.parametrize("name", CASES)
def test_a_refusal_reaches_who_sends_a_body_first(api: Server, name: str, n_bytes: int) -> None:
    case = CASES[name]
    for number in range(2 * TIMES):
        status, headers, body = ask(api.port, case, n_bytes, chunked=number % 2 == 1)
        assert (status, json.loads(body)["status"]) == (case.status, case.status), body
        assert headers.get_all("Content-Type") == ["application/problem+json"]
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["X-Request-Id"] == json.loads(body)["request_id"]
        assert len(body) < 4000


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("path", ["/sim", "/nowhere"])
def test_a_body_over_the_limit_too(api: Server, path: str, chunked: bool) -> None:
    for n_bytes in (11_000_000, 16_000_000):
        status, _, body = ask(api.port, Case(413, "POST", path), n_bytes, chunked=chunked)
        assert (status, json.loads(body)["status"]) == (413, 413)


@pytest.mark.parametrize("n_bytes", SIZES_BYTES)
def test_what_unpacks_to_too_much_too(api: Server, n_bytes: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    packed = gzip.compress(b" " * 11_000_000, 1) + b"\0" * n_bytes  # what follows the end counts too
    connection.request("POST", "/sim", packed, {**JSON, "Content-Encoding": "gzip"})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["status"]) == (413, 413)
    connection.close()


@pytest.mark.parametrize("target", ["/" + "x" * 6000, "/sim"], ids=["long address", "long header"])
def test_a_head_too_large_with_a_body_behind_it(api: Server, target: str) -> None:
    """The proxy takes longer ones than the application, and is asked for more."""
    headers = JSON if len(target) > 100 else {**JSON, "X-Long": "a" * 40_000}
    status, _, body = ask(api.port, Case(0, "POST", target, headers), 3_000_000, chunked=False)
    assert (status, json.loads(body)["status"]) in ((414, 414), (431, 431), (400, 400))


@pytest.mark.parametrize("name", ["wrong type", "unknown route", "wrong method", "no JSON", "brotli", "unknown key"])
def test_curl_sees_it_too(api: Server, name: str, tmp_path: Path) -> None:
    """It asks with Expect: 100-continue before a body of over a megabyte."""
    needs("curl")
    case = CASES[name]
    (tmp_path / "body").write_bytes(case.body(3_000_000))
    command = ["curl", "-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30", "-X", case.method]
    command += [word for pair in case.headers.items() for word in ("-H", f"{pair[0]}: {pair[1]}")]
    command += ["-H", "Content-Type:"] if not case.headers else []
    command += ["--data-binary", f"@{tmp_path / 'body'}", "--write-out", "\n%{http_code}", f"{api.url}{case.path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    assert (int(status), json.loads(body)["status"]) == (case.status, case.status)


@pytest.mark.parametrize("n_bytes", SIZES_BYTES)
def test_an_expectation_that_nobody_meets(alone: Server, n_bytes: int) -> None:
    """nginx passes it over."""
    case = Case(417, "POST", "/sim", {**JSON, "Expect": "miracles"})
    assert ask(alone.port, case, n_bytes, chunked=False)[0] == 417


def test_the_server_is_well_afterwards(alone: Server) -> None:
    assert alone.get("/healthz").status == 200
    assert alone.post("/predict", {"model": "tiny", "inputs": "a"}).status == 200
