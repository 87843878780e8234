"""JWTs of a configured OIDC issuer, as credentials of the admin API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit

import aiohttp
import jwt

from gatecast.controlplane.access.admin_tokens import Caller, Role
from gatecast.errors import Forbidden, InvalidValue, IssuerUnavailable, SettingInvalid, Unauthenticated
from gatecast.events import clean_identifier
from gatecast.settings import variable
from gatecast.telemetry import get_logger

#: Keys of these types and curves sign with one of these. Only the holder of a private key can make such a signature;
#: anything symmetric would let a reader of keys sign.
_BY_TYPE: Mapping[tuple[str, str], frozenset[str]] = {
    ("RSA", ""): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
    ("OKP", "Ed448"): frozenset({"EdDSA"}),
}
ALGORITHMS = frozenset[str]().union(*_BY_TYPE.values())

#: How far the issuer's clock may differ from ours, in seconds.
LEEWAY = 30.0

#: The issuer is asked for its keys again after this time; in seconds.
KEYS_FRESH = 3600.0

#: When the issuer does not answer, its last keys are used for this long; in seconds.
KEYS_USABLE = 24 * 3600.0

#: When old keys cannot be renewed, the issuer is asked again after this time; in seconds.
ASK_INTERVAL = 30.0

#: The issuer is asked for unknown keys at most once in this time, whatever tokens arrive; in seconds.
UNKNOWN_ASK_INTERVAL = 5.0

#: Longest JWT, in characters.
MAX_TOKEN_LENGTH = 8 * 1024

#: An issuer that has not answered within this time counts as unavailable; in seconds.
FETCH_TIME_LIMIT = 5.0

#: Largest answer of an issuer, in bytes.
MAX_ANSWER_BYTES = 512 * 1024

#: Most keys of an issuer.
MAX_KEYS = 100

#: The errors of reading a malformed answer.
_SENSELESS = (ValueError, KeyError, TypeError, AttributeError)

#: The JSON object at a URL; raises OSError, TimeoutError, ValueError or aiohttp.ClientError when there is none.
Fetch: TypeAlias = Callable[[str], Awaitable[Mapping[str, Any]]]

#: The same for the answer to a form.
Post: TypeAlias = "Callable[[str, Mapping[str, str], aiohttp.BasicAuth | None], Awaitable[Mapping[str, Any]]]"

_logger = get_logger("oidc")


def is_jwt(token: str) -> bool:
    """Whether a token has the shape of a JWT; our own tokens have not."""
    return token.startswith("eyJ") and token.count(".") == 2  # noqa: PLR2004 - header, claims, signature


async def fetch_json(url: str) -> Mapping[str, Any]:
    """The JSON object at a URL, within 5 seconds, without redirects.

    Raises:
        ValueError: it is no object, too large, or not at an address that is safe to ask.
        aiohttp.ClientError: there is no answer, or it is an error.
        TimeoutError: it takes too long.
    """
    _require_safe(url)
    limit = aiohttp.ClientTimeout(total=FETCH_TIME_LIMIT)
    async with aiohttp.ClientSession(timeout=limit) as session, session.get(url, allow_redirects=False) as answer:
        return await _object_in(answer)


async def _object_in(answer: aiohttp.ClientResponse) -> Mapping[str, Any]:
    if answer.status != HTTPStatus.OK:
        raise ValueError(f"it answers {answer.status}")
    text = await answer.content.read(MAX_ANSWER_BYTES + 1)
    while len(text) <= MAX_ANSWER_BYTES and (more := await answer.content.read(MAX_ANSWER_BYTES)):
        text += more
    if len(text) > MAX_ANSWER_BYTES:
        raise ValueError("the answer is too large")
    return _object(json.loads(text))


async def post_form(url: str, form: Mapping[str, str], credentials: aiohttp.BasicAuth | None) -> Mapping[str, Any]:
    """The JSON object that a form is answered with, within 5 seconds, without redirects.

    Raises:
        ValueError: it is no object, too large, or not at an address that is safe to ask.
        aiohttp.ClientError: there is no answer.
        TimeoutError: it takes too long.
        Unauthenticated: what the form says is refused.
    """
    _require_safe(url)
    limit = aiohttp.ClientTimeout(total=FETCH_TIME_LIMIT)
    async with (
        aiohttp.ClientSession(timeout=limit, auth=credentials) as session,
        session.post(url, data=form, allow_redirects=False) as answer,
    ):
        if HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unauthenticated
        return await _object_in(answer)


def _require_safe(url: str) -> None:
    """Keys that come over a wire which others can write to prove nothing; the text continues "must …"."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")):
        raise ValueError("begin with https://")


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - a wrong answer, not a wrong call
    return value


async def configuration_of(issuer: str, fetch: Fetch) -> Mapping[str, Any]:
    """The configuration that an issuer publishes.

    Raises:
        ValueError, KeyError: it names another issuer.
    """
    configuration = await fetch(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if configuration["issuer"] != issuer:
        raise ValueError("its configuration names another issuer")
    return configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """The code that a browser brought back from the issuer, and the secrets of its log-in."""

    code: str
    #: Proves that the browser that brings the code has asked for it (PKCE).
    verifier: str
    #: Stands in the id token, so that one of another log-in does not do.
    nonce: str
    redirect_uri: str
    client_id: str
    #: Empty: the client is public.
    client_secret: str


class _IssuerKeys:
    """The public keys of an issuer, by their id.

    Known keys serve while the issuer is asked for new ones, so a hanging issuer delays only tokens with an unknown key.
    An unknown key makes us ask at once, at most every few seconds.
    """

    def __init__(self, issuer: str, *, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._keys: Mapping[str, Sequence[_Key]] = {}
        self._fetched_at = self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> Sequence[_Key]:
        """The keys with this id; none: the issuer has none.

        Raises:
            IssuerUnavailable: that cannot be told now.
        """
        is_usable = self._clock() - self._fetched_at <= KEYS_USABLE
        if is_usable and key_id in self._keys:
            if self._clock() - self._fetched_at > KEYS_FRESH:
                self._ask_again(ASK_INTERVAL)
            return self._keys[key_id]
        asking = self._ask_again(UNKNOWN_ASK_INTERVAL)
        if asking is not None:
            # A caller that is cancelled meanwhile does not cancel the request for the others.
            await asyncio.shield(asking)
        return self._found(key_id)

    def _found(self, key_id: str) -> Sequence[_Key]:
        if self._clock() - self._fetched_at > KEYS_USABLE:
            raise IssuerUnavailable
        keys = self._keys.get(key_id, ())
        if not keys and self._asked_at > self._fetched_at:
            # The last question was not answered, so this may be a key that we could not hear of.
            raise IssuerUnavailable
        return keys

    def _ask_again(self, interval: float) -> asyncio.Task[None] | None:
        """The question that is being asked; None: it was asked just now."""
        if self._asking is None and self._clock() - self._asked_at >= interval:
            self._asking = asyncio.create_task(self._ask(), name="oidc-keys")
            self._asking.add_done_callback(self._note_answer)
        return self._asking

    def _note_answer(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled() and (failure := task.exception()) is not None:
            _logger.error("issuer-not-asked", issuer=self._issuer, exc_info=failure)

    async def _ask(self) -> None:
        try:
            keys = await self._fetch_keys()
        except (aiohttp.ClientError, OSError, *_SENSELESS) as error:
            _logger.warning("issuer-does-not-answer", issuer=self._issuer, error=str(error) or type(error).__name__)
            self._asked_at = self._clock()
        else:
            self._keys = keys
            self._asked_at = self._fetched_at = self._clock()

    async def _fetch_keys(self) -> Mapping[str, Sequence[_Key]]:
        answer = await self._fetch((await configuration_of(self._issuer, self._fetch))["jwks_uri"])
        found: dict[str, list[_Key]] = {}
        for key in filter(None, map(_key, answer["keys"][:MAX_KEYS])):
            found.setdefault(key.key_id, []).append(key)
        return found


@dataclass(frozen=True, slots=True)
class _Key:
    """A key that signatures can be checked with."""

    key_id: str
    public: Any
    #: The algorithms it may sign with: those it names, or else those of its type.
    algorithms: frozenset[str]


def _key(described: Mapping[str, Any]) -> _Key | None:
    """A key that signatures can be checked with; None: it is for something else."""
    try:
        key = jwt.PyJWK(dict(described))
        allowed = {described["alg"]} if described.get("alg") else _BY_TYPE.get(_type_of(described), frozenset())
        uses = described.get("use"), described.get("key_ops")
    except (jwt.PyJWTError, *_SENSELESS):
        return None
    if uses[0] not in (None, "sig") or (uses[1] is not None and "verify" not in uses[1]):
        return None
    algorithms = frozenset(allowed) & ALGORITHMS
    return _Key(key.key_id, key.key, algorithms) if algorithms and isinstance(key.key_id, str) and key.key_id else None


def _type_of(described: Mapping[str, Any]) -> tuple[str, str]:
    return described["kty"], "" if described["kty"] == "RSA" else described["crv"]


class OidcIssuer:
    """Recognizes the JWTs of one issuer."""

    def __init__(
        self,
        issuer: str,
        *,
        audience: str,
        organization_claim: str,
        role_claim: str = "",
        fetch: Fetch = fetch_json,
        post: Post = post_form,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._fetch, self._post = fetch, post
        self._audience = audience
        self._organization_claim = organization_claim
        self._role_claim = role_claim
        self._keys = _IssuerKeys(issuer, fetch=fetch, clock=clock)

    @classmethod
    def configured(cls, issuer: str, audience: str, organization_claim: str, role_claim: str = "") -> OidcIssuer | None:
        """The issuer that the settings of these names describe; None: they name none.

        Raises:
            SettingInvalid: the issuer has no safe address, or no audience is named, so that any of its tokens would do.
        """
        if not issuer:
            return None
        try:
            _require_safe(issuer)
        except ValueError as problem:
            raise SettingInvalid(variable("oidc_issuer"), issuer, str(problem)) from None
        if not audience:
            raise SettingInvalid(variable("oidc_audience"), audience, "be set where an issuer is")
        return cls(issuer, audience=audience, organization_claim=organization_claim, role_claim=role_claim)

    async def caller_with(self, token: str) -> Caller:
        """Who sent this token.

        Raises:
            Unauthenticated: the token is not valid.
            Forbidden: it is valid, and names no organization, or no role where one is asked for.
            IssuerUnavailable: that cannot be told now.
        """
        return self._caller_in(await self._claims_of(token, self._audience))

    async def authorization_endpoint(self) -> str:
        """The address to which browsers are sent to log in.

        Raises:
            IssuerUnavailable: that cannot be told now.
        """
        return await self._endpoint("authorization_endpoint")

    async def exchange(self, authorization: Authorization) -> Caller:
        """The person who logged in with this authorization.

        The id token says that it was made for this log-in; who the person is and what they may do is read from the
        access token where that is a JWT for our audience, and from the id token otherwise.

        Raises:
            Unauthenticated: the issuer refuses the code, or its id token is not valid.
            Forbidden: its claims name no organization, or no role where one is asked for.
            IssuerUnavailable: it does not answer.
        """
        answer = await self._redeem(authorization)
        id_token, access_token = str(answer.get("id_token", "")), str(answer.get("access_token", ""))
        claims = await self._claims_of(id_token, authorization.client_id)
        if claims.get("nonce") != authorization.nonce or not claims.get("sub"):
            raise Unauthenticated
        if is_jwt(access_token):
            with suppress(Unauthenticated):
                access = await self._claims_of(access_token, self._audience)
                if access.get("sub") == claims["sub"]:
                    return self._caller_in(access)
        return self._caller_in(claims)

    async def _redeem(self, authorization: Authorization) -> Mapping[str, Any]:
        endpoint = await self._endpoint("token_endpoint")
        form = {
            "grant_type": "authorization_code",
            "code": authorization.code,
            "redirect_uri": authorization.redirect_uri,
            "client_id": authorization.client_id,
            "code_verifier": authorization.verifier,
        }
        secret = authorization.client_secret
        credentials = aiohttp.BasicAuth(quote(authorization.client_id), quote(secret)) if secret else None
        try:
            return await self._post(endpoint, form, credentials)
        except (aiohttp.ClientError, OSError, *_SENSELESS) as error:
            raise self._away(error) from None

    async def _endpoint(self, name: str) -> str:
        try:
            endpoint = (await configuration_of(self._issuer, self._fetch))[name]
            _require_safe(endpoint)
        except (aiohttp.ClientError, OSError, *_SENSELESS) as error:
            raise self._away(error) from None
        return str(endpoint)

    def _away(self, error: Exception) -> IssuerUnavailable:
        _logger.warning("issuer-does-not-answer", issuer=self._issuer, error=str(error) or type(error).__name__)
        return IssuerUnavailable()

    def _caller_in(self, claims: Mapping[str, Any]) -> Caller:
        return Caller(
            organization=self._organization_in(claims),
            role=self._role_in(claims),
            subject=f"oidc {claims.get('sub', 'unnamed')}",
        )

    async def organization_of(self, token: str) -> str:
        """The organization that this token administers.

        Raises:
            Unauthenticated: the token is not valid.
            Forbidden: it is valid, and names no organization.
            IssuerUnavailable: that cannot be told now.
        """
        return self._organization_in(await self._claims_of(token, self._audience))

    def _role_in(self, claims: Mapping[str, Any]) -> Role:
        """The role that the claims name; without a claim to look at, everybody is an admin."""
        if not self._role_claim:
            return Role.ADMIN
        named = claims.get(self._role_claim)
        for role in Role:
            if named == role or (isinstance(named, list) and role in named):
                return role
        raise Forbidden(f"the token names neither admin nor viewer in its claim {self._role_claim}")

    def _organization_in(self, claims: Mapping[str, Any]) -> str:
        try:
            return clean_identifier(self._organization_claim, _single(claims.get(self._organization_claim)))
        except InvalidValue:
            raise Forbidden(
                f"the token does not name one organization in its claim {self._organization_claim}"
            ) from None

    async def _claims_of(self, token: str, audience: str) -> Mapping[str, Any]:
        algorithm, keys = await self._keys_of(token)
        return self._claims(token, algorithm, keys, audience)

    async def _keys_of(self, token: str) -> tuple[str, Sequence[_Key]]:
        """The algorithm that the token names, and the keys that may have signed it."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise Unauthenticated
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Unauthenticated from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        # A token that can never be valid does not make us ask the issuer.
        if algorithm not in ALGORITHMS or not isinstance(key_id, str):
            raise Unauthenticated
        # A token does not choose how it is checked: the key does.
        return algorithm, [key for key in await self._keys.find(key_id) if algorithm in key.algorithms]

    def _claims(self, token: str, algorithm: str, keys: Sequence[_Key], audience: str) -> Mapping[str, Any]:
        """The token's claims, if one of the keys has signed it; several keys may share an id during a rotation."""
        for key in keys:
            try:
                return self._decoded(token, algorithm, key, audience)
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
                continue
            except jwt.PyJWTError:
                break
        raise Unauthenticated

    def _decoded(self, token: str, algorithm: str, key: _Key, audience: str) -> Mapping[str, Any]:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.public,
            algorithms=[algorithm],
            audience=audience,
            issuer=self._issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
        )
        return claims


def _single(claim: object) -> object:
    """The organization in a claim: a text, a list of one, or a map of one, whose key names it."""
    if isinstance(claim, list | dict) and len(claim) == 1:
        return next(iter(claim))
    return claim
