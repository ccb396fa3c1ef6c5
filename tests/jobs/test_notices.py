"""Who asked to be told is told: signed, again and again, and never inside a private network."""

import http.server
import ipaddress
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from model_api.errors import InvalidInput
from model_api.jobs.notices import NotPublic, check_url, key_of, post, public_addresses
from tests.jobs.conftest import Rig, open_rig
from tests.rigs.polling import wait_until

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


class Receiver:
    """A program that is told: keeps what came, and answers with the next of `statuses`."""

    def __init__(self) -> None:
        self.statuses = [204]
        self.told: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.told.append(({k.lower(): v for k, v in self.headers.items()}, body))
                status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://169.254.169.254/latest/meta-data")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?a=1"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def wait(self, n: int = 1) -> None:
        wait_until(lambda: len(self.told) >= n, within_s=20, every_s=0.02, what="a notice")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    made.thread.start()
    yield made
    made.server.shutdown()
    made.thread.join()
    made.server.server_close()


@pytest.fixture
def told_rig(tmp_path: Path) -> Iterator[Rig]:
    rig = open_rig(tmp_path / "jobs", notify_networks=LOOPBACK)
    yield rig
    rig.service.gate.set()
    rig.jobs.stop()


def test_a_notice_is_what_other_peoples_library_accepts(told_rig: Rig, receiver: Receiver, tmp_path: Path) -> None:
    job = told_rig.ask(notify=receiver.url)
    receiver.wait()
    headers, body = receiver.told[0]
    secret = (tmp_path / "jobs" / "notify-secret").read_text()
    told = Webhook(secret).verify(body, headers)
    assert told["type"] == "job.succeeded"
    assert (told["data"]["id"], told["data"]["status"]) == (job["id"], "succeeded")
    assert "result" not in told["data"]
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"succeeded", b"cancelled"), headers)


def test_it_is_told_again_until_it_is_heard_with_the_same_id(told_rig: Rig, receiver: Receiver) -> None:
    receiver.statuses = [500, 302, 204]
    job_id = told_rig.ask(notify=receiver.url)["id"]
    due = told_rig.jobs.queue.records
    wait_until(lambda: told_rig.wait(job_id), what="the end")

    def tell_now() -> bool:
        job = due.get(job_id)
        assert job is not None
        if job.notify_at is not None:  # the wait between tries is over
            due.swap(job, replace(job, notify_at=0.0, revision=job.revision + 1))
        return len(receiver.told) >= 3

    wait_until(tell_now, within_s=30, every_s=0.1, what="three tries")
    assert len({headers["webhook-id"] for headers, _ in receiver.told}) == 1
    wait_until(lambda: getattr(due.get(job_id), "notify_at", 0) is None, what="the end of the notices")


def test_a_dead_address_blocks_nothing(told_rig: Rig, receiver: Receiver) -> None:
    with socket.socket() as silent:  # accepts, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        told_rig.ask(["first"], notify=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        told_rig.ask(["second"], notify=receiver.url)
        receiver.wait()
        assert told_rig.wait(told_rig.ask(["third"])["id"])["status"] == "succeeded"


def test_a_cancelled_job_is_told_too(told_rig: Rig, receiver: Receiver) -> None:
    told_rig.service.gate.clear()
    job_id = told_rig.ask(notify=receiver.url)["id"]
    told_rig.client.delete(f"/jobs/{job_id}")
    receiver.wait()
    assert json.loads(receiver.told[0][1])["type"] == "job.cancelled"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.0.0.1",
        "169.254.169.254",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "[fd00::1]",
        "[fe80::1]",
        "[64:ff9b::a00:1]",
        "[2002:a00:1::]",
        "0.0.0.0",
        "0",
        "2130706433",
        "0x7f.1",
        "100.64.0.1",
        "224.0.0.1",
        "nowhere.invalid",
    ],
)
def test_private_addresses_are_refused_however_they_are_written(host: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_url(f"http://{host}/hook", ())
    assert caught.value.pointer == "/notify"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "http://",
        "file:///etc/passwd",
        "http://a b/",
        "http://ä.example/",
        "http://u:p@1.1.1.1/",
        "http://1.1.1.1:x/",
    ],
)
def test_what_is_no_address_to_tell_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(url, ())


def test_public_addresses_are_accepted() -> None:
    check_url("https://1.1.1.1/hook", ())
    assert public_addresses("1.1.1.1", 443, ()) == ["1.1.1.1"]


def test_a_name_that_changed_its_meaning_is_refused(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """DNS rebinding: public when the job was asked for, private when it is told."""
    answers = ["1.1.1.1", "127.0.0.1"]

    def resolve(host: str, port: int, **kinds: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = f"http://rebinding.example:{receiver.server.server_port}/"
    check_url(url, ())
    with pytest.raises(NotPublic):
        post(url, b"{}", {}, ())
    assert not receiver.told


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kinds: found)
    with pytest.raises(NotPublic):
        public_addresses("both.example", 80, ())


def test_secrets_are_text_or_as_other_programs_make_them() -> None:
    assert key_of("a chosen text of some length") == b"a chosen text of some length"
    assert key_of("whsec_AAEC") == b"\x00\x01\x02"
