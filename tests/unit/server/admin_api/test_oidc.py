"""JWTs of a configured OIDC issuer, as credentials of the admin API."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gatecast.errors import Forbidden, IssuerUnavailable, SettingInvalid, Unauthenticated
from gatecast.server.admin_api.oidc import (
    ASK_INTERVAL,
    KEYS_FRESH,
    KEYS_USABLE,
    LEEWAY,
    MAX_TOKEN_LENGTH,
    UNKNOWN_ASK_INTERVAL,
    OidcIssuer,
    fetch_json,
    is_jwt,
)

_ISSUER = "https://issuer.example"
_SECONDS_AGO = timedelta(seconds=1)


@cache
def _rsa_key(number: int = 0, size: int = 2048) -> rsa.RSAPrivateKey:
    assert number >= 0
    return rsa.generate_private_key(65537, size)


def _described(key_id: str, key: rsa.RSAPrivateKey | None = None, **more: str) -> dict[str, Any]:
    public = RSAAlgorithm.to_jwk((key or _rsa_key()).public_key(), as_dict=True)
    return {**public, "kid": key_id, **more}


def _token(*, key: Any = None, algorithm: str = "RS256", key_id: str | None = "key-1", **claims: object) -> str:  # noqa: ANN401 - any private key
    now = datetime.now(UTC)
    known = {"iss": _ISSUER, "aud": "gatecast", "exp": now + timedelta(minutes=5), "organization": "acme"}
    headers = {} if key_id is None else {"kid": key_id}
    everything = {name: value for name, value in {**known, **claims}.items() if value is not None}
    return jwt.encode(everything, key or _rsa_key(), algorithm=algorithm, headers=headers)


class _Issuer:
    """Answers as an issuer does, and counts how often its keys are asked for."""

    def __init__(self, *keys: Mapping[str, Any]) -> None:
        self.keys: object = list(keys)
        self.named = _ISSUER
        self.failure: Exception | None = None
        self.hangs: asyncio.Event | None = None
        self.asked = 0
        self.now = 1_000.0

    async def fetch(self, url: str) -> Mapping[str, Any]:
        if self.failure is not None:
            self.asked += 1
            raise self.failure
        if url == f"{_ISSUER}/.well-known/openid-configuration":
            return {"issuer": self.named, "jwks_uri": f"{_ISSUER}/keys"}
        assert url == f"{_ISSUER}/keys"
        self.asked += 1
        await (self.hangs.wait() if self.hangs else asyncio.sleep(0))
        return {"keys": self.keys}

    def open(self) -> OidcIssuer:
        return OidcIssuer(
            _ISSUER,
            audience="gatecast",
            organization_claim="organization",
            fetch=self.fetch,
            clock=lambda: self.now,
        )


async def test_a_token_of_the_issuer_names_its_organization() -> None:
    """The keys are asked for once."""
    issuer = _Issuer(_described("key-1"))
    oidc = issuer.open()
    assert [await oidc.organization_of(_token()) for _ in range(3)] == ["acme"] * 3
    assert await oidc.organization_of(_token(aud=["other", "gatecast"], organization=" acme ")) == "acme"
    assert issuer.asked == 1


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "PS256"])
async def test_other_asymmetric_signatures_are_accepted(algorithm: str) -> None:
    key: Any
    if algorithm == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
        described = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif algorithm == "EdDSA":
        key = ed25519.Ed25519PrivateKey.generate()
        described = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        key = _rsa_key()
        described = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    issuer = _Issuer({**described, "kid": "key-1", "alg": algorithm, "use": "sig"})
    assert await issuer.open().organization_of(_token(key=key, algorithm=algorithm)) == "acme"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"iss": None},
        {"aud": "somebody-else"},
        {"aud": None},
        {"exp": None},
        {"exp": datetime.now(UTC) - timedelta(seconds=LEEWAY) - _SECONDS_AGO},
        {"nbf": datetime.now(UTC) + timedelta(hours=1)},
        {"iat": datetime.now(UTC) + timedelta(hours=1)},
    ],
)
async def test_a_token_that_is_not_for_us_or_not_for_now_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        await _Issuer(_described("key-1")).open().organization_of(_token(**claims))


async def test_clocks_may_differ_a_little() -> None:
    oidc = _Issuer(_described("key-1")).open()
    assert await oidc.organization_of(_token(exp=datetime.now(UTC) - timedelta(seconds=LEEWAY / 2))) == "acme"


@pytest.mark.parametrize(
    "organization",
    [None, "", " ", 7, [], ["acme", "other"], {}, {"acme": 1, "other": 2}, [7], [["acme"]], "a\nb", "x" * 256],
)
async def test_a_valid_token_without_one_organization_is_forbidden(organization: object) -> None:
    with pytest.raises(Forbidden):
        await _Issuer(_described("key-1")).open().organization_of(_token(organization=organization))


@pytest.mark.parametrize("organization", ["acme", ["acme"], {"acme": {"id": "7"}}, {"acme": None}, [" acme "]])
async def test_the_organization_is_a_text_a_list_of_one_or_a_map_of_one(organization: object) -> None:
    assert await _Issuer(_described("key-1")).open().organization_of(_token(organization=organization)) == "acme"


def _unsigned() -> str:
    header, claims = (
        urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "kid": "key-1"}, {"iss": _ISSUER, "aud": "gatecast", "organization": "acme"})
    )
    return f"{header}.{claims}."


def _signed_with_the_public_key() -> str:
    """The classic: an HMAC whose secret is what everybody may read."""
    return _token(key=_described("key-1")["n"].encode(), algorithm="HS256")


@pytest.mark.parametrize(
    "token",
    [
        "eyJ.x.y",
        "eyJ..",
        _unsigned(),
        _signed_with_the_public_key(),
        _token(key_id=None),
        _token(organization="x" * MAX_TOKEN_LENGTH),
        _token()[:-4],
    ],
    ids=["garbage", "empty", "unsigned", "symmetric", "no-key-id", "too-long", "cut"],
)
async def test_what_cannot_be_a_token_of_the_issuer_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        await _Issuer(_described("key-1")).open().organization_of(token)


async def test_a_signature_of_another_key_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        await _Issuer(_described("key-1")).open().organization_of(_token(key=_rsa_key(1)))


@pytest.mark.parametrize(
    "described",
    [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "key-1", "alg": "HS256"},
        _described("key-1", use="enc"),
        {"kid": "key-1"},
        _described("key-1", alg="RS999"),
        _described(""),
    ],
    ids=["symmetric", "for-encryption", "empty", "unknown-algorithm", "nameless"],
)
async def test_a_key_that_is_not_for_signatures_is_not_used(described: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        await _Issuer(described).open().organization_of(_token())


async def test_a_senseless_key_does_not_hide_the_others() -> None:
    issuer = _Issuer(_described("key-1"))
    issuer.keys = [7, {"kty": "RSA", "kid": "broken"}, {"kty": ["EC"]}, _described("key-1")]
    assert await issuer.open().organization_of(_token()) == "acme"


async def test_a_key_that_is_too_short_is_not_used() -> None:
    short = _rsa_key(0, 1024)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = _token(key=short)
    with pytest.raises(Unauthenticated):
        await _Issuer(_described("key-1", short)).open().organization_of(token)


# --- asking for keys --------------------------------------------------------------------------------------------------


async def test_unknown_keys_make_us_ask_at_once_and_seldom() -> None:
    """At most every few seconds, whatever tokens come; a new key is found at the next time."""
    issuer = _Issuer(_described("key-1"))
    oidc = issuer.open()
    await oidc.organization_of(_token())
    issuer.now += UNKNOWN_ASK_INTERVAL
    issuer.keys = [_described("key-1"), _described("key-2", _rsa_key(2))]
    assert await oidc.organization_of(_token(key=_rsa_key(2), key_id="key-2")) == "acme"
    assert issuer.asked == 2
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await oidc.organization_of(_token(key_id=f"made-up-{number}"))
    assert issuer.asked == 2
    issuer.now += UNKNOWN_ASK_INTERVAL
    with pytest.raises(Unauthenticated):
        await oidc.organization_of(_token(key_id="made-up"))
    assert issuer.asked == 3


def test_an_unknown_key_waits_for_seconds_only() -> None:
    assert UNKNOWN_ASK_INTERVAL <= 10


async def test_known_keys_serve_while_the_issuer_hangs() -> None:
    """Old keys are renewed beside; only whose key nobody knows waits."""
    issuer = _Issuer(_described("key-1"))
    oidc = issuer.open()
    await oidc.organization_of(_token())
    issuer.hangs = asyncio.Event()
    issuer.now += KEYS_FRESH + 1
    assert [await oidc.organization_of(_token()) for _ in range(5)] == ["acme"] * 5
    unknown = asyncio.create_task(oidc.organization_of(_token(key=_rsa_key(2), key_id="key-2")))
    await asyncio.sleep(0)
    assert await oidc.organization_of(_token()) == "acme"
    assert not unknown.done()
    issuer.keys = [_described("key-2", _rsa_key(2))]
    issuer.hangs.set()
    assert await unknown == "acme"
    assert issuer.asked == 2
    with pytest.raises(Unauthenticated):
        await oidc.organization_of(_token())


async def test_several_keys_may_share_an_id() -> None:
    """While one is replaced, or for other algorithms; each is tried."""
    curve = ec.generate_private_key(ec.SECP256R1())
    described = {**ECAlgorithm.to_jwk(curve.public_key(), as_dict=True), "kid": "key-1"}
    oidc = _Issuer(described, _described("key-1", _rsa_key(3)), _described("key-1")).open()
    assert await oidc.organization_of(_token()) == "acme"
    assert await oidc.organization_of(_token(key=_rsa_key(3))) == "acme"
    assert await oidc.organization_of(_token(key=curve, algorithm="ES256")) == "acme"
    with pytest.raises(Unauthenticated):
        await oidc.organization_of(_token(key=_rsa_key(4)))


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
async def test_a_key_that_names_no_algorithm_signs_with_those_of_its_type(algorithm: str) -> None:
    oidc = _Issuer(_described("key-1")).open()
    assert await oidc.organization_of(_token(algorithm=algorithm)) == "acme"


async def test_a_key_that_names_an_algorithm_signs_with_that_one_only() -> None:
    oidc = _Issuer(_described("key-1", alg="PS256")).open()
    assert await oidc.organization_of(_token(algorithm="PS256")) == "acme"
    with pytest.raises(Unauthenticated):
        await oidc.organization_of(_token(algorithm="RS256"))


@pytest.mark.parametrize(("curve", "algorithm"), [(ec.SECP384R1(), "ES384"), (ec.SECP521R1(), "ES512")])
async def test_a_curve_has_one_algorithm(curve: ec.EllipticCurve, algorithm: str) -> None:
    key = ec.generate_private_key(curve)
    described = {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "key-1"}
    oidc = _Issuer(described).open()
    assert await oidc.organization_of(_token(key=key, algorithm=algorithm)) == "acme"


async def _answered(issuer: _Issuer, times: int) -> None:
    """Return when the issuer has answered so often, and the answer was read."""
    while issuer.asked < times:
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_at_once_ask_once() -> None:
    issuer = _Issuer(_described("key-1"))
    oidc = issuer.open()
    assert await asyncio.gather(*(oidc.organization_of(_token()) for _ in range(10))) == ["acme"] * 10
    assert issuer.asked == 1


async def test_a_withdrawn_key_is_refused_after_a_while() -> None:
    """Once it was asked for again, which the first use of an old key does."""
    issuer = _Issuer(_described("key-1"))
    oidc = issuer.open()
    await oidc.organization_of(_token())
    issuer.keys = []
    issuer.now += KEYS_FRESH + 1
    assert await oidc.organization_of(_token()) == "acme"
    await _answered(issuer, 2)
    with pytest.raises(Unauthenticated):
        await oidc.organization_of(_token())


@pytest.mark.parametrize("failure", [OSError("no route"), TimeoutError(), ValueError("no JSON")])
async def test_an_issuer_that_does_not_answer_is_unavailable_and_never_a_refusal(failure: Exception) -> None:
    """And it is not asked again and again; known keys are used for a day."""
    issuer = _Issuer(_described("key-1"))
    oidc = issuer.open()
    issuer.failure = failure
    for _ in range(5):
        with pytest.raises(IssuerUnavailable):
            await oidc.organization_of(_token())
    assert issuer.asked == 1
    issuer.failure = None
    issuer.now += ASK_INTERVAL
    assert await oidc.organization_of(_token()) == "acme"
    issuer.failure = failure
    issuer.now += KEYS_FRESH + 1
    asked = issuer.asked
    assert await oidc.organization_of(_token()) == "acme"
    await _answered(issuer, asked + 1)
    assert await oidc.organization_of(_token()) == "acme"
    with pytest.raises(IssuerUnavailable):
        await oidc.organization_of(_token(key_id="perhaps-new"))
    issuer.now += KEYS_USABLE
    with pytest.raises(IssuerUnavailable):
        await oidc.organization_of(_token())


@pytest.mark.parametrize("keys", [None, 7, {"key-1": {}}])
async def test_an_answer_that_makes_no_sense_is_no_answer(keys: object) -> None:
    issuer = _Issuer()
    issuer.keys = keys
    with pytest.raises(IssuerUnavailable):
        await issuer.open().organization_of(_token())


async def test_a_configuration_of_another_issuer_is_not_followed() -> None:
    issuer = _Issuer(_described("key-1"))
    issuer.named = "https://other.example"
    with pytest.raises(IssuerUnavailable):
        await issuer.open().organization_of(_token())


async def test_a_caller_that_leaves_while_keys_are_fetched_harms_nobody() -> None:
    issuer = _Issuer(_described("key-1"))
    oidc = issuer.open()
    leaving = asyncio.create_task(oidc.organization_of(_token()))
    while not issuer.asked:
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    assert await oidc.organization_of(_token()) == "acme"


# --- settings and shapes ----------------------------------------------------------------------------------------------


def test_without_an_issuer_there_is_none() -> None:
    assert OidcIssuer.configured("", "", "organization") is None
    assert OidcIssuer.configured(_ISSUER, "gatecast", "organization") is not None
    assert OidcIssuer.configured("http://127.0.0.1:8081", "gatecast", "organization") is not None


@pytest.mark.parametrize(
    ("issuer", "audience", "named"),
    [
        (_ISSUER, "", "GATECAST_OIDC_AUDIENCE"),
        ("http://issuer.example", "gatecast", "GATECAST_OIDC_ISSUER"),
        ("issuer.example", "gatecast", "GATECAST_OIDC_ISSUER"),
        ("file:///etc/keys", "gatecast", "GATECAST_OIDC_ISSUER"),
    ],
)
def test_an_issuer_that_cannot_be_trusted_is_refused_at_the_start(issuer: str, audience: str, named: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        OidcIssuer.configured(issuer, audience, "organization")
    assert refused.value.name == named


def test_our_own_tokens_do_not_look_like_jwts() -> None:
    assert is_jwt(_token())
    assert not is_jwt("gca_eyJ-abc")
    assert not is_jwt("eyJ.only-two")


# --- fetching ---------------------------------------------------------------------------------------------------------


async def _answer(request: web.Request) -> web.Response:
    answers: dict[str, web.Response] = {
        "/object": web.json_response({"keys": []}),
        "/list": web.json_response([]),
        "/text": web.Response(text="hello"),
        "/large": web.json_response({"x": "y" * 600_000}),
        "/missing": web.Response(status=404),
        "/elsewhere": web.Response(status=302, headers={"Location": "/object"}),
    }
    return answers[request.path]


async def test_only_a_small_json_object_is_fetched() -> None:
    app = web.Application()
    app.router.add_get("/{name}", _answer)
    async with TestServer(app, host="127.0.0.1") as server:
        assert await fetch_json(str(server.make_url("/object"))) == {"keys": []}
        for path in ("/list", "/text", "/large", "/missing", "/elsewhere"):
            with pytest.raises(ValueError, match=r"."):
                await fetch_json(str(server.make_url(path)))


async def test_nothing_is_fetched_over_a_wire_that_others_can_write_to() -> None:
    with pytest.raises(ValueError, match="https"):
        await fetch_json("http://issuer.example/keys")
