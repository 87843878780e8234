"""How tokens are made, stored and compared."""

from __future__ import annotations

import hmac
from hashlib import sha256
from secrets import token_urlsafe

#: Random bytes in a token, which make 43 characters.
_TOKEN_BYTES = 32

#: Characters stored unhashed, so that people can tell tokens apart.
_PREFIX_LENGTH = 10


def make_token(kind: str) -> str:
    """A new random token: its kind (`gca` for admins, `gcg` for gateways), `_`, and 43 random characters."""
    return f"{kind}_{token_urlsafe(_TOKEN_BYTES)}"


def prefix_of(token: str) -> str:
    """The first ten characters of a token, which may be shown."""
    return token[:_PREFIX_LENGTH]


def digest_of(token: str) -> str:
    """The hex SHA-256 of a token, which is all that is stored of it.

    A token is random enough to need neither salt nor a slow hash.
    """
    return sha256(token.encode(errors="surrogatepass")).hexdigest()


def same_digest(one: str, other: str) -> bool:
    """Whether two digests are equal, compared in constant time so that timing tells nothing about them."""
    return hmac.compare_digest(one, other)
