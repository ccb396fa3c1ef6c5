"""Telling a caller's address that a job is over: signed, outside any lease, and never into a private network.

Signed as standardwebhooks.com has it: HMAC-SHA256 over "<id>.<timestamp>.<body>", so any of its libraries checks it.
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from model_api.errors import InvalidInput, JobsDown
from model_api.jobs import job as states
from model_api.jobs.job import MAX_NOTICES, Job
from model_api.jobs.records import Records

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
SECRET_PREFIX = "whsec_"  # noqa: S105 - what comes before a key
TIMEOUT_S = 10.0  # of one step
TOTAL_TIMEOUT_S = 20.0  # of all: an answer that drips in must not hold a thread
THREADS = 4  # so that a few dead addresses don't keep the others waiting
LOOK_S = 1.0
AT_ONCE = 50
MAX_URL_CHARS = 2048
TOPIC_PREFIX = "arn:"
# Networks whose addresses stand for IPv4 ones, which may be anybody's: NAT64, 6to4, Teredo.
_TRANSLATED = tuple(ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))


class NotPublic(Exception):
    """The host's addresses aren't all public ones, or it has none."""


def public_addresses(host: str, port: int, allowed: Sequence[Network]) -> list[str]:
    """The addresses of `host`, all of them public or in `allowed`. Resolves, so it may take seconds.

    Raises NotPublic. Connect to one of these and to nothing else: asked again, the name may have another answer.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotPublic(f"{host[:255]} has no address") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for text in addresses:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in allowed):
            continue
        translated = any(address in network for network in _TRANSLATED)
        if not address.is_global or address.is_multicast or translated:
            raise NotPublic(f"{host[:255]} is not an address on the public internet")
    return addresses


def check_url(url: str, allowed: Sequence[Network]) -> None:
    """Raises InvalidInput at /notify for what can't, or mustn't, be told."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput("not a URL", "/notify") from None
    if len(url) > MAX_URL_CHARS or not url.isascii() or any(character <= " " for character in url):
        raise InvalidInput(f"must have at most {MAX_URL_CHARS} ASCII characters, and no space", "/notify")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("must be an http or https URL", "/notify")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("must hold no name and password", "/notify")
    try:
        public_addresses(parts.hostname, port or 443, allowed)
    except NotPublic as error:
        raise InvalidInput(str(error), "/notify") from None


class PinnedConnection(http.client.HTTPConnection):
    """Speaks to one address, whatever the name means by now."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S)
        self._address = address
        self._context = context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = plain if self._context is None else self._context.wrap_socket(plain, server_hostname=self.host)


def post(url: str, body: bytes, headers: dict[str, str], allowed: Sequence[Network]) -> int:
    """The status of the answer; redirects are not followed. Raises OSError, HTTPException or NotPublic."""
    parts = urlsplit(url)
    host, secure = str(parts.hostname), parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    address = public_addresses(host, port, allowed)[0]
    connection = PinnedConnection(host, port, address, ssl.create_default_context() if secure else None)
    guard = None
    try:
        connection.connect()
        guard = threading.Timer(TOTAL_TIMEOUT_S, _hang_up, (connection.sock,))
        guard.daemon = True
        guard.start()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        if guard is not None:
            guard.cancel()
        connection.close()


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def key_of(secret: str) -> bytes:
    """The key that a secret stands for: `whsec_` and its base64, as other programs make them, or any other text.
    Raises ValueError."""
    if secret.startswith(SECRET_PREFIX):
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX) + "==")
    return secret.encode()


def signature_headers(key: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {"Webhook-Id": message_id, "Webhook-Timestamp": str(timestamp), "Webhook-Signature": f"v1,{digest}"}


class Notifier:
    """The threads that tell what is to be told. Several over one store do no harm; what is told may come twice, always
    with the same Webhook-Id."""

    def __init__(
        self,
        records: Records,
        body_of: Callable[[Job], bytes],
        *,
        key: bytes,
        allowed: Sequence[Network],
        publish: Callable[[str, str, bytes], None],
    ) -> None:
        """`publish(arn, subject, body)` tells a topic of SNS, which only pipelines name. It raises JobsDown."""
        self._publish = publish
        self._records = records
        self._body_of = body_of
        self._key = key
        self._allowed = allowed
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"notifier-{i}", daemon=True) for i in range(THREADS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def tell_all(self) -> int:
        """Tell what is due now; how many were told. Raises JobsDown."""
        told = 0
        for job in self._records.to_notify(self._records.now(), AT_ONCE):
            noted = states.note_notice(job, self._records.now())
            if noted is None or self._stopping.is_set() or not self._records.swap(job, noted):
                continue
            told += (success := self._tell(noted))
            if success or noted.notices >= MAX_NOTICES:
                self._records.swap(noted, states.end_notices(noted))
        return told

    def _tell(self, job: Job) -> bool:
        body = self._body_of(job)
        if (job.notify or "").startswith(TOPIC_PREFIX):
            return self._tell_topic(job, body)
        # The same however often it is told, another one when the job is over once more.
        message_id = f"{job.id}-{job.fence}-{job.status}"
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "model-api",
            **signature_headers(self._key, message_id, int(time.time()), body),
        }
        fields = {"job": job.id, "host": urlsplit(job.notify or "").hostname, "try": job.notices}
        try:
            status = post(job.notify or "", body, headers, self._allowed)
        except (OSError, http.client.HTTPException, NotPublic, ValueError) as error:
            log.info("a notice failed", extra={"fields": {**fields, "error": type(error).__name__}})
            return False
        log.info("a notice was answered", extra={"fields": {**fields, "status": status}})
        return 200 <= status < 300

    def _tell_topic(self, job: Job, body: bytes) -> bool:
        try:
            self._publish(job.notify or "", f"Model API: {job.kind} has {job.status}", body)
        except JobsDown as error:
            log.warning("a notice failed", extra={"fields": {"job": job.id, "try": job.notices, "error": str(error)}})
            return False
        return True

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self.tell_all()
            except JobsDown as error:
                log.warning("notices wait", extra={"fields": {"error": str(error)}})
            except Exception:
                log.exception("a notice failed")
