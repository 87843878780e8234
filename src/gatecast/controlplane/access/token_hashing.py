"""How tokens are made and compared."""

from __future__ import annotations

import hmac
from hashlib import sha256
from secrets import token_urlsafe

#: Random bytes in a token.
_TOKEN_BYTES = 32

#: Characters that are kept in the clear, so that people can tell tokens apart.
_PREFIX_LENGTH = 10


def make_token(kind: str) -> str:
    """A new random token that begins with its kind."""
    return f"{kind}_{token_urlsafe(_TOKEN_BYTES)}"


def prefix_of(token: str) -> str:
    """The beginning of a token, which is no secret."""
    return token[:_PREFIX_LENGTH]


def digest_of(token: str) -> str:
    """What is stored of a token. It is random enough that no salt and no slow hash is needed."""
    return sha256(token.encode(errors="surrogatepass")).hexdigest()


def same_digest(one: str, other: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one, other)
