"""JSON Web Tokens: good ones, and every way to forge one that is known by a name."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from model_api.errors import KeysUnknown, SettingsError, Unauthenticated
from model_api.settings import Settings
from model_api.web.security.jwks import Jwks
from model_api.web.security.tokens import TokenReader
from tests.rigs.keyed import bearer
from tests.rigs.polling import wait_until
from tests.web.security.test_gate import Rig, basic, refused

SECRET = "0123456789abcdef0123456789abcdef"
RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
AUDIENCE, ISSUER = "model-api", "https://id.example.org/"


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"sub": "alice@example.org", "exp": now + 600, "iat": now, "scope": "openid predict", **more}


def signed(key: Any = SECRET, algorithm: str = "HS256", headers: Mapping[str, Any] | None = None, **more: Any) -> str:
    body = {name: value for name, value in claims(**more).items() if value is not None}
    return jwt.encode(body, key, algorithm, headers=dict(headers or {}))


def part(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def hmac_by(key: bytes, header: Mapping[str, Any], body: Mapping[str, Any], kind: Any = hashlib.sha256) -> str:
    """A token that no library would make."""
    head = f"{part(header)}.{part(body)}"
    seal = base64.urlsafe_b64encode(hmac.digest(key, head.encode(), kind)).rstrip(b"=").decode()
    return f"{head}.{seal}"


def jwks(*keys: tuple[str | None, Any], **more: Any) -> dict[str, Any]:
    entries = []
    for key_id, key in keys:
        kind = {"RSA": jwt.algorithms.RSAAlgorithm, "ECP": jwt.algorithms.ECAlgorithm}
        name = type(key).__name__[:3].upper()
        algorithm: Any = kind.get(name, jwt.algorithms.OKPAlgorithm)
        entry = {**json.loads(algorithm.to_jwk(key.public_key())), "use": "sig", **more}
        entries.append(entry if key_id is None else {**entry, "kid": key_id})
    return {"keys": entries}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, jwt_secret=SECRET)


@pytest.fixture
def by_jwks(tmp_path: Path) -> TokenReader:
    """Of somebody with three keys."""
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(jwks(("rsa", RSA), ("ec", EC), ("ed", ED))))
    settings = {"jwt_jwks": str(file), "jwt_audience": AUDIENCE, "jwt_issuer": ISSUER}
    reader = TokenReader(Settings(**settings))  # type: ignore[arg-type]
    assert reader._jwks is not None
    reader._jwks.look()
    return reader


def test_a_token_calls_as_a_key_does(rig: Rig) -> None:
    for headers in (bearer(signed()), {"X_Api_Key": signed()}, {"Authorization": basic("alice", signed())}):
        assert rig.predict(**headers).status_code == 200
    assert rig.service.calls[-1][1].caller == "jwt:alice@example.org"
    assert "predict" in refused(rig.client.get("/metrics", headers=bearer(signed())), 403, "forbidden")
    assert rig.client.get("/metrics", headers=bearer(signed(scope="status"))).status_code == 200
    for name in ("scopes", "scp"):
        listed: dict[str, Any] = {"scope": None, name: ["predict"]}
        assert rig.predict(**bearer(signed(**listed))).status_code == 200
    refused(rig.predict(**bearer(signed(scope=None))), 403, "forbidden")
    refused(rig.predict(**bearer(signed(models=["other"]))), 403, "forbidden")
    limited = signed(sub="bob", rates=["1/day"])
    assert rig.predict(**bearer(limited)).status_code == 200
    refused(rig.predict(**bearer(limited)), 429, "too-many-requests")


NONE = ["none", "None", "NONE", "nOnE", "", None, 0, ["HS256"], "HS256\0"]
FORGED: dict[str, Any] = {
    **{f"alg={alg!r}": lambda alg=alg: f"{part({'alg': alg, 'typ': 'JWT'})}.{part(claims())}." for alg in NONE},
    "alg=none, signed": lambda: hmac_by(SECRET.encode(), {"alg": "none"}, claims()),
    "another secret": lambda: signed(SECRET[::-1]),
    "an empty secret": lambda: hmac_by(b"", {"alg": "HS256"}, claims()),
    "a signature of another token": lambda: (
        signed(sub="mallory").rpartition(".")[0] + "." + signed().rpartition(".")[2]
    ),
    "no signature": lambda: signed().rpartition(".")[0] + ".",
    "RS256 where there is a secret": lambda: signed(RSA, "RS256"),
    "its own key in the header": lambda: signed(RSA, "RS256", {"jwk": jwks((None, RSA))["keys"][0]}),
    "its key elsewhere": lambda: signed(RSA, "RS256", {"jku": "https://evil.example.org/jwks", "kid": "k"}),
    "a file as key id": lambda: hmac_by(b"", {"alg": "HS256", "kid": "../../dev/null"}, claims()),
    "HS512 with 32 bytes": lambda: hmac_by(SECRET.encode(), {"alg": "HS512"}, claims(), hashlib.sha512),
    "no exp": lambda: signed(exp=None),
    "no sub": lambda: signed(sub=None),
    "sub of two lines": lambda: signed(sub="a\nb"),
    "sub that is long": lambda: signed(sub="a" * 200),
    "exp that is a text": lambda: hmac_by(SECRET.encode(), {"alg": "HS256"}, claims(exp="never")),
    "exp that is huge, forged": lambda: hmac_by(b"x", {"alg": "HS256"}, {**claims(), "exp": 10**400}),
    "exp that is not finite": lambda: hmac_by(SECRET.encode(), {"alg": "HS256"}, {**claims(), "exp": float("inf")}),
    "expired": lambda: signed(exp=int(time.time()) - 60),
    "not yet": lambda: signed(nbf=int(time.time()) + 600),
    "of the future": lambda: signed(iat=int(time.time()) + 600),
    "for somebody else": lambda: signed(aud="another-service"),
    "scope of another kind": lambda: signed(scope=7),
    "scopes that are no texts": lambda: signed(scope=[["predict"]]),
    "a limit that isn't understood": lambda: signed(rates=["fast"]),
    "models that are none": lambda: signed(models=["../x"]),
    "models that are nothing": lambda: signed(models=[]),
    "critical, unknown": lambda: signed(SECRET, "HS256", {"crit": ["exp2"], "exp2": 1}),
    "claims that are a list": lambda: hmac_by(SECRET.encode(), {"alg": "HS256"}, []),  # type: ignore[arg-type]
    "a header that is a text": lambda: hmac_by(SECRET.encode(), "HS256", claims()),  # type: ignore[arg-type]
    "dots": lambda: "a.b.c",
    "encrypted": lambda: "a.b.c.d.e",
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens(name: str, rig: Rig) -> None:
    token = FORGED[name]()
    detail = refused(rig.predict(**bearer(token)), 401, "unauthenticated")
    assert token not in detail
    assert rig.service.calls == []


def test_a_token_for_ever_is_good(rig: Rig) -> None:
    for exp in (10**15, 10**400):
        assert rig.predict(**bearer(hmac_by(SECRET.encode(), {"alg": "HS256"}, claims(exp=exp)))).status_code == 200


def test_clocks_may_differ_by_the_leeway(tmp_path: Path) -> None:
    now = int(time.time())
    rig = Rig(tmp_path, jwt_secret=SECRET, jwt_leeway_s=60)
    good: list[dict[str, Any]] = [{"exp": now - 30}, {"nbf": now + 30}, {"iat": now + 30}]
    for more in good:
        assert rig.predict(**bearer(signed(**more))).status_code == 200, more
    late: list[dict[str, Any]] = [{"exp": now - 90}, {"nbf": now + 90}, {"iat": now + 90}]
    for more in late:
        refused(rig.predict(**bearer(signed(**more))), 401, "unauthenticated")


def test_what_was_verified_once_expires_all_the_same() -> None:
    now = [time.time()]
    reader = TokenReader(Settings(jwt_secret=SECRET, jwt_leeway_s=0), clock=lambda: now[0])
    token = signed(exp=int(time.time()) + 2)
    assert reader.read(token) is reader.read(token)
    now[0] += 3
    assert reader._known  # it is there, and doesn't count
    end = jwt.decode(token, options={"verify_signature": False})["exp"]
    wait_until(lambda: time.time() > end, within_s=10, what="the end of the token")
    with pytest.raises(Unauthenticated, match="expired"):
        reader.read(token)


def test_no_more_tokens_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_api.web.security.tokens.MAX_KNOWN", 3)
    reader = TokenReader(Settings(jwt_secret=SECRET))
    for number in range(5):
        reader.read(signed(sub=f"s{number}"))
    assert len(reader._known) == 3


@pytest.mark.parametrize(
    ("key_id", "key", "algorithm"), [("rsa", RSA, "RS256"), ("ec", EC, "ES256"), ("ed", ED, "EdDSA")]
)
def test_public_keys(key_id: str, key: Any, algorithm: str, by_jwks: TokenReader) -> None:
    more = {"aud": AUDIENCE, "iss": ISSUER}
    for headers in ({"kid": key_id}, {}):
        caller = by_jwks.read(signed(key, algorithm, headers, **more))
        assert caller is not None
        assert caller.scopes == {"predict"}
    wrong = [
        signed(key, algorithm, {"kid": key_id}, iss=ISSUER),
        signed(key, algorithm, {"kid": key_id}, aud="x", iss=ISSUER),
        signed(key, algorithm, {"kid": key_id}, aud=AUDIENCE),
        signed(key, algorithm, {"kid": key_id}, aud=AUDIENCE, iss="https://evil.example.org/"),
        signed(key, algorithm, {"kid": "unknown"}, **more),
        signed(key, algorithm, {"kid": ""}, **more),
    ]
    for token in wrong:
        with pytest.raises(Unauthenticated):
            by_jwks.read(token)


def test_a_public_key_is_no_secret(by_jwks: TokenReader) -> None:
    """The oldest trick: an HMAC by what everybody can read."""
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    body = claims(aud=AUDIENCE, iss=ISSUER)
    for secret in (public, public.strip(), json.dumps(jwks(("rsa", RSA))["keys"][0]).encode()):
        for kid in ("rsa", None):
            with pytest.raises(Unauthenticated):
                by_jwks.read(hmac_by(secret, {"alg": "HS256", **({"kid": kid} if kid else {})}, body))
    with pytest.raises(Unauthenticated):
        by_jwks.read(signed(OTHER_RSA, "RS256", {"kid": "rsa"}, aud=AUDIENCE, iss=ISSUER))
    with pytest.raises(Unauthenticated):
        by_jwks.read(signed(RSA, "PS256", {"kid": "rsa"}, aud=AUDIENCE, iss=ISSUER))  # the key is for RS256


@pytest.mark.parametrize(
    "document",
    ["{", "[]", "{}", '{"keys": []}', '{"keys": [1, {}, {"kty": "oct", "k": "c2VjcmV0", "kid": "rsa"}]}', "\xff"],
)
def test_a_jwks_that_breaks_leaves_the_last_good_one(document: str, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    keys = Jwks(str(file), lambda: None)
    file.write_text(document)
    keys.look()
    with pytest.raises(KeysUnknown):
        keys.key("rsa", "RS256")
    file.write_text(json.dumps(jwks(("rsa", RSA))))
    keys.look()
    assert keys.key("rsa", "RS256") is not None
    file.write_text(document)
    keys.look()
    assert keys.key("rsa", "RS256") is not None


class Issuer:
    """A JWKS at an address."""

    def __init__(self) -> None:
        issuer = self
        self.document: dict[str, Any] = jwks(("one", RSA))
        self.redirect_to: str | None = None
        self.asked = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                body = json.dumps(issuer.document).encode()
                self.send_response(302 if issuer.redirect_to else 200)
                if issuer.redirect_to:
                    self.send_header("Location", issuer.redirect_to)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_new_key_of_the_issuer_is_found_soon(issuer: Issuer) -> None:
    changed = threading.Event()
    keys = Jwks(issuer.url, changed.set, again_s=0.01)
    keys.start()
    assert changed.wait(10)
    assert keys.key("one", "RS256") is not None
    changed.clear()
    issuer.document = jwks(("two", OTHER_RSA))
    with pytest.raises(Unauthenticated):
        keys.key("two", "RS256")
    assert changed.wait(10)
    assert keys.key("two", "RS256") is not None
    with pytest.raises(Unauthenticated):
        keys.key("one", "RS256")
    keys.stop()


def test_an_issuer_sends_nobody_elsewhere(issuer: Issuer) -> None:
    issuer.redirect_to = issuer.url + "?again"
    keys = Jwks(issuer.url, lambda: None)
    keys.look()
    assert issuer.asked == 1
    with pytest.raises(KeysUnknown):
        keys.key("one", "RS256")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"MODEL_API_JWT_SECRET": "s3cret-s3cret"}, "MODEL_API_JWT_SECRET=...: must have at least 32 bytes"),
        ({"MODEL_API_JWT_SECRET": "-----BEGIN PUBLIC KEY-----" + "x" * 99}, "is a public key, and no secret"),
        ({"MODEL_API_JWT_JWKS": "https://id.example.org/jwks"}, "needs MODEL_API_JWT_AUDIENCE too"),
        ({"MODEL_API_JWT_JWKS": "http://id.example.org/jwks", "MODEL_API_JWT_AUDIENCE": "a"}, "an address of https"),
        ({"MODEL_API_JWT_JWKS": "ftp://id.example.org/jwks", "MODEL_API_JWT_AUDIENCE": "a"}, "an address of https"),
        ({"MODEL_API_JWT_LEEWAY_S": "-1"}, "MODEL_API_JWT_LEEWAY_S='-1'"),
    ],
)
def test_settings_that_would_be_holes_are_refused(given: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(given)
    assert told in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_without_a_signer_a_token_is_no_key(tmp_path: Path) -> None:
    assert "no key of this server" in refused(Rig(tmp_path).predict(**bearer(signed())), 401, "unauthenticated")
    assert Rig(tmp_path / "open", auth="open").predict(**bearer(signed())).status_code == 200
