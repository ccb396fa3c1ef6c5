"""What pipelines may read, and what they may not, however it is written."""

import http.server
import io
import ipaddress
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_api.errors import InvalidInput, JobsDown
from model_api.jobs import sources
from model_api.jobs.notices import Network
from model_api.jobs.sources import fetch, is_allowed

LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"),)
CONTENT = b"id,text\n1,a\n"


class Site:
    """Answers each path with what stands in `pages`: status, headers, body."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {"/data/a.csv": (200, {}, CONTENT)}
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                status, headers, body = site.pages.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def read(source: str, allowed: list[str], networks: tuple[Network, ...] = LOOPBACK, max_bytes: int = 1000) -> bytes:
    target = io.BytesIO()
    n_bytes = fetch(source, target, allowed=allowed, networks=networks, max_bytes=max_bytes)
    assert n_bytes == len(target.getvalue())
    return target.getvalue()


def test_what_is_allowed_is_read(site: Site, tmp_path: Path) -> None:
    assert read(f"{site.url}/data/a.csv", [f"{site.url}/data"]) == CONTENT
    (tmp_path / "a.csv").write_bytes(CONTENT)
    assert read(str(tmp_path / "a.csv"), [str(tmp_path)]) == CONTENT


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://a.example/news/x.xml", True),
        ("https://a.example/news", True),
        ("https://A.example:443/news/x", True),
        ("https://a.example/newsroom", False),
        ("https://a.example/news/../private", False),
        ("https://a.example/news/%2e%2e/private", False),
        ("https://a.example/news/..%2fprivate", False),
        ("https://a.example/", False),
        ("http://a.example/news/x", False),
        ("https://a.example:8443/news/x", False),
        ("https://a.example.evil.example/news/x", False),
        ("https://a.example@evil.example/news/x", False),
        ("https://evil.example/?https://a.example/news", False),
        ("https://a.example\\@evil.example/news/x", False),
        ("https://a.example/news /x", False),
        ("https://a.example/news\n/x", False),
        ("ftp://a.example/news/x", False),
        ("file:///etc/passwd", False),
        ("https://[a.example/news", False),
        ("https://a.example:port/news/x", False),
    ],
)
def test_beginnings_of_urls(url: str, allowed: bool) -> None:
    assert is_allowed(url, ["https://a.example/news", "/a/folder"]) is allowed
    if not allowed:
        with pytest.raises(InvalidInput, match="MODEL_API_SOURCES"):
            read(url, ["https://a.example/news"])


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.5", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
)
def test_a_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [(family, socket.SOCK_STREAM, 6, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    with pytest.raises(InvalidInput, match="not an address on the public internet"):
        read("https://a.example/news", ["https://a.example"], ())


def test_what_was_checked_is_what_is_connected_to(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name may have another answer the second time; it isn't asked a second time."""
    port = site.server.server_port
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]]
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> Any:
        return answers.pop() if host == "a.example" else real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert read(f"http://a.example:{port}/data/a.csv", [f"http://a.example:{port}"]) == CONTENT


def test_redirects_are_checked_too(site: Site) -> None:
    allowed = [f"{site.url}/data"]
    site.pages["/data/moved"] = (302, {"Location": "a.csv"}, b"")
    assert read(f"{site.url}/data/moved", allowed) == CONTENT
    for location in (
        "/private",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "//evil.example/data/",
    ):
        site.pages["/data/moved"] = (302, {"Location": location}, b"")
        with pytest.raises(InvalidInput, match="MODEL_API_SOURCES"):
            read(f"{site.url}/data/moved", allowed)
    assert "/private" not in site.asked
    site.pages["/data/round"] = (301, {"Location": f"{site.url}/data/round"}, b"")
    with pytest.raises(InvalidInput, match="more than 3 redirects"):
        read(f"{site.url}/data/round", allowed)


def test_what_is_too_large_or_comes_otherwise_is_refused(site: Site, tmp_path: Path) -> None:
    site.pages["/data/large"] = (200, {}, b"x" * 1001)
    with pytest.raises(InvalidInput, match="larger than 1000 bytes"):
        read(f"{site.url}/data/large", [site.url])
    (tmp_path / "large").write_bytes(b"x" * 1001)
    with pytest.raises(InvalidInput, match="larger than 1000 bytes"):
        read(str(tmp_path / "large"), [str(tmp_path)])
    site.pages["/data/packed"] = (200, {"Content-Encoding": "gzip"}, b"x")
    with pytest.raises(InvalidInput, match="sends gzip"):
        read(f"{site.url}/data/packed", [site.url])
    with pytest.raises(InvalidInput, match="answers 404"):
        read(f"{site.url}/data/nothing", [site.url])


def test_what_may_pass_is_tried_again(site: Site) -> None:
    site.pages["/data/busy"] = (503, {}, b"")
    with pytest.raises(JobsDown, match="answers 503"):
        read(f"{site.url}/data/busy", [site.url])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(JobsDown) as told:
        read(f"http://127.0.0.1:{port}/a?key=secret", [f"http://127.0.0.1:{port}"])
    assert "secret" not in str(told.value)


def test_files_outside_are_refused_whatever_leads_there(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "a.csv").write_bytes(CONTENT)
    (inside / "link.csv").symlink_to(outside / "a.csv")
    (inside / "folder").symlink_to(outside)
    for file in ("../outside/a.csv", "link.csv", "folder/a.csv", "nothing.csv", "."):
        with pytest.raises(InvalidInput, match="no file among MODEL_API_SOURCES"):
            read(f"{inside}/{file}", [str(inside)])
    with pytest.raises(InvalidInput, match="no file among"):
        read("relative.csv", [str(inside)])
    assert sources.MAX_REDIRECTS == 3
