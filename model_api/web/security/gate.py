"""The gate in front of every route: who calls, and whether this route is for them.

Where keys are `required`, whoever has none comes to open routes only. Where calling is `open`, a key is asked for by
what operators do alone; but one that is sent is checked, and means what it means elsewhere. What is no key of this
project's (OpenAI's client always sends something) is then passed over.
"""

import ipaddress
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import cast

from flask import Flask, current_app

from model_api.errors import Forbidden, KeysUnknown, Unauthenticated
from model_api.repository.keys import SCOPES, TOKEN_PATTERN, hash_of, moment
from model_api.serving.calls import UNGUARDED, Guard
from model_api.settings import Settings
from model_api.settings.keys import first_key
from model_api.web.callers import ANONYMOUS, Caller
from model_api.web.requests import ApiRequest, current_request
from model_api.web.security.credentials import Credential, credential_of
from model_api.web.security.guards import JobGuard, RequestGuard
from model_api.web.security.key_ring import KeyRing
from model_api.web.security.limits import Limiter
from model_api.web.security.scopes import OPERATE, STATUS, WITHOUT_KEY, need_of
from model_api.web.security.tokens import TokenReader

OPERATOR = Caller("operator", OPERATE)
EVERYBODY = Caller("", frozenset(SCOPES) - OPERATE)  # who calls without a key where none is required
THIS_MACHINE = Caller("", STATUS)
_NO_HASH = "0" * 64


@dataclass(frozen=True)
class Gate:
    """Any thread; waits for nothing."""

    settings: Settings
    ring: KeyRing
    limiter: Limiter
    tokens: TokenReader

    def start(self) -> None:
        self.ring.start()
        self.tokens.start()

    def stop(self) -> None:
        self.ring.stop()
        self.tokens.stop()

    def check(self, request: ApiRequest) -> None:
        """Note who calls. Raises Unauthenticated, Forbidden, KeysUnknown."""
        rule = request.url_rule
        if rule is None or request.method == "OPTIONS":
            return  # 404 and 405 are everybody's, and a browser asks what it may send before it has a key to send
        need = need_of(request.method, rule.rule, self.settings.public)
        if need in WITHOUT_KEY:
            return
        caller = self._caller(request)
        if need.isdisjoint(caller.scopes):
            if not caller.id:
                raise Unauthenticated(f"send a key with the scope {_words(need)}, as Authorization: Bearer KEY")
            raise Forbidden(f"{caller.id} may {_words(caller.scopes)}; this needs {_words(need)}")
        request.caller = caller
        if caller.models is not None or caller.rates:
            request.guard = RequestGuard(caller, self.limiter, request)

    def guard_of(self, owner: str) -> Guard:
        """Of a job's owner, for what the job asks: its tokens count, and what was accepted is done."""
        key = self.ring.get(owner)
        return UNGUARDED if key is None or not key.rates else JobGuard(key.id, key.rates, self.limiter)

    def identify(self, credential: Credential) -> Caller | None:
        """Whom a credential names; None for what is no key. Raises Unauthenticated for one that isn't good, KeysUnknown
        where that can't be told."""
        found = TOKEN_PATTERN.fullmatch(credential.text)
        if found is not None:
            return self._of_key(found[1], found[2])
        operator = self.settings.operator_key
        if operator is not None and compare_digest(_digest(credential.text), _digest(operator)):
            return OPERATOR
        if credential.text.startswith("mk_"):
            raise Unauthenticated("that is no whole key: mk_<id>_<secret>")
        return self.tokens.read(credential.text)

    def _caller(self, request: ApiRequest) -> Caller:
        required = self.settings.auth == "required"
        try:
            credential = credential_of(request.environ)
        except Unauthenticated:
            if required:
                raise
            credential = None
        caller = None if credential is None else self.identify(credential)
        if caller is not None:
            return caller
        if not required:
            return EVERYBODY
        if credential is not None:
            raise Unauthenticated("that is no key of this server")
        return THIS_MACHINE if self._is_from_here(request) else ANONYMOUS

    def _of_key(self, key_id: str, secret: str) -> Caller:
        key = self.ring.get(key_id)
        good = compare_digest(hash_of(secret), _NO_HASH if key is None else key.sha256)
        if key is None or not good:
            if key is None and not self.ring.state().known:
                raise KeysUnknown(f"no key can be checked: {self.ring.state().detail}")
            raise Unauthenticated("no such key")
        if key.revoked is not None:
            raise Unauthenticated(f"{key.id} was revoked")
        if key.expires is not None and key.expires <= self.ring.now():
            raise Unauthenticated(f"{key.id} expired {moment(key.expires)}")
        return Caller(key.id, key.scopes, key.models, key.rates)

    def _is_from_here(self, request: ApiRequest) -> bool:
        """Behind proxies: whether somebody on this very machine asks past them, as what tells CloudWatch does. They add
        X-Forwarded-For to all that they pass on."""
        if not self.settings.proxy_hops or "HTTP_X_FORWARDED_FOR" in request.environ:
            return False
        try:
            return ipaddress.ip_address(str(request.environ.get("REMOTE_ADDR", ""))).is_loopback
        except ValueError:
            return False


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()


def _words(scopes: frozenset[str]) -> str:
    return " or ".join(sorted(scopes)) or "nothing"


def current_gate() -> Gate:
    return cast(Gate, current_app.extensions["model_api_gate"])


def register(app: Flask, settings: Settings) -> Gate:
    """Put the gate in front of the routes. Starts and reads nothing: `ring.start` does."""
    ring = KeyRing(
        settings.efs_root,
        settings.local_store,
        settings.poll_s,
        first=first_key(settings),
        required=settings.auth == "required",
    )
    limiter = Limiter(settings.cache, settings.cache_timeout_s)
    app.extensions["model_api_gate"] = gate = Gate(settings, ring, limiter, TokenReader(settings))
    app.before_request(lambda: gate.check(current_request()))
    return gate
