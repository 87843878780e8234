"""A small OIDC issuer that logs everybody in at once: discovery, keys, authorization code with PKCE."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Self
from urllib.parse import urlencode

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

_KEY_ID = "key-1"


class SmallIssuer:
    """Answers as an issuer does; what its tokens say can be changed."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        #: What the browser asked for, by code.
        self._asked: dict[str, dict[str, str]] = {}
        #: Claims of the next tokens, over those that they would have.
        self.claims: dict[str, Any] = {}
        #: Why nobody is logged in; empty: everybody is.
        self.refusal = ""
        self.address = ""

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Self]:
        """An issuer on loopback."""
        issuer = cls()
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", issuer._describe)
        app.router.add_get("/keys", issuer._keys)
        app.router.add_get("/authorize", issuer._authorize)
        app.router.add_post("/token", issuer._token)
        async with TestServer(app, host="127.0.0.1") as server:
            issuer.address = f"http://127.0.0.1:{server.port}"
            yield issuer

    async def _describe(self, _request: web.Request) -> web.Response:
        places = {"jwks_uri": "keys", "authorization_endpoint": "authorize", "token_endpoint": "token"}
        found = {name: f"{self.address}/{path}" for name, path in places.items()}
        return web.json_response({"issuer": self.address, **found})

    async def _keys(self, _request: web.Request) -> web.Response:
        public = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return web.json_response({"keys": [{**public, "kid": _KEY_ID, "alg": "ES256", "use": "sig"}]})

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        if self.refusal:
            answer = {"error": self.refusal, "state": asked["state"]}
        else:
            code = token_urlsafe(8)
            self._asked[code] = asked
            answer = {"code": code, "state": asked["state"]}
        raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode(answer)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        # A code holds once.
        asked = self._asked.pop(str(form.get("code")), {})
        challenge = urlsafe_b64encode(sha256(str(form.get("code_verifier")).encode()).digest()).decode().rstrip("=")
        if asked.get("code_challenge") != challenge or asked["redirect_uri"] != form.get("redirect_uri"):
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response({"token_type": "Bearer", "access_token": "opaque", "id_token": self._signed(asked)})

    def _signed(self, asked: dict[str, str]) -> str:
        known = {
            "iss": self.address,
            "sub": "ada",
            "aud": asked["client_id"],
            "nonce": asked["nonce"],
            "exp": datetime.now(UTC) + timedelta(minutes=5),
            "organization": "default",
        }
        claims = {name: value for name, value in {**known, **self.claims}.items() if value is not None}
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": _KEY_ID})
