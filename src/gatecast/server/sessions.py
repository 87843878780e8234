"""Browser sessions: an encrypted cookie that every pod can read, so that pods keep no sessions."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from secrets import token_bytes
from typing import Any, Self

from gatecast.controlplane.encryption import Encryption
from gatecast.errors import SecretKeyMissing

#: Name of the cookie.
COOKIE = "gatecast_session"

#: An unused session ends after this time, in seconds.
IDLE_LIMIT = 60 * 60

#: A session ends after this time in any case, in seconds.
ABSOLUTE_LIMIT = 12 * 60 * 60

#: A cookie is renewed at most once in this time, in seconds.
RENEWAL = 60

_PLACE = "console-session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A logged-in person."""

    #: SHA-256 of the admin token that the person logged in with: revoking the token ends the session. Empty for those
    #: who logged in through the OIDC issuer.
    digest: str
    #: The organization that the person administers.
    organization: str
    #: When the person logged in, in seconds since 1970.
    began: int
    #: When the person was last seen.
    seen: int
    #: The person's name and role according to the OIDC issuer; empty for those who logged in with a token.
    subject: str = ""
    role: str = ""
    #: Logging out everywhere starts the next one.
    generation: int = 0

    def is_over(self, now: int) -> bool:
        """Whether the person has to log in again."""
        return now - self.seen > IDLE_LIMIT or now - self.began > ABSOLUTE_LIMIT or self.seen > now + RENEWAL

    def renewed(self, now: int) -> Self | None:
        """The session with the present time as last seen; None while the present cookie is recent enough."""
        return replace(self, seen=now) if now - self.seen >= RENEWAL else None


class SessionCookies:
    """Turns sessions into cookies and back.

    Without a secret key the cookies hold for this pod only, and until it ends.
    """

    def __init__(self, encryption: Encryption) -> None:
        self._encryption = encryption if encryption.has_key else Encryption([token_bytes(32)])
        #: Whether every pod can open the cookies.
        self.shared = encryption.has_key

    def encrypt(self, session: Session) -> str:
        """The value of the cookie."""
        return self.seal_values(asdict(session), place=_PLACE)

    def open(self, value: str) -> Session | None:
        """The session in a cookie; None if there is none, or if it was encrypted with another key."""
        values = self.open_values(value, place=_PLACE)
        try:
            return None if values is None else Session(**values)
        except TypeError:
            return None

    def seal_values(self, values: Mapping[str, Any], *, place: str) -> str:
        """The value of a cookie that contains these; `place` tells one kind of cookie from another."""
        sealed = self._encryption.encrypt(json.dumps(values), place=place)
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open_values(self, value: str, *, place: str) -> dict[str, Any] | None:
        """The content of a cookie of this kind; None if it is empty or was encrypted with another key."""
        try:
            sealed = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
            values = json.loads(self._encryption.open(sealed, place=place))
        except (SecretKeyMissing, binascii.Error, ValueError, TypeError):
            return None
        return values if isinstance(values, dict) else None
