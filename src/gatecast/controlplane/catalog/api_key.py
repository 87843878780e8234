"""What an API key is."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from gatecast.storage.contract import Row

#: Most active keys of an artifact. A gateway drops further ones: it counts all keys of the control plane as one user's.
MAX_ACTIVE_KEYS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of an artifact, without its value. Times are milliseconds since 1970, in UTC."""

    id: str
    artifact_id: str
    #: Unique among the artifact's active keys.
    name: str
    #: What may be shown of its value.
    mask: str
    #: Of its value, in lower-case hex.
    sha256: str
    expires_at: int | None
    created_at: int
    #: When it was changed last: later than every earlier change of a key of its artifact.
    updated_at: int
    revoked_at: int | None = None
    #: The newest version under which a gateway was told it once more, without any other change; 0: none was.
    renewed_at: int = 0
    #: The change with which gateways were told that its time is over; 0: they were not.
    ended_at: int = 0

    @classmethod
    def of(cls, row: Row) -> ApiKey:
        """The key in a row."""
        return cls(**{name: row[name] for name in cls.__slots__})

    @property
    def version(self) -> int:
        """What gateways compare: they ignore a key that is not newer than what they have of its name."""
        return max(self.updated_at, self.renewed_at)

    def expired(self, now: int) -> bool:
        """True once its time is over."""
        return self.expires_at is not None and self.expires_at <= now


def hash_of(value: str) -> str:
    """How gateways know a key (gateway-protocol.md section 5)."""
    return sha256(value.strip().encode()).hexdigest()


def mask_of(value: str) -> str:
    """The last five characters."""
    return f"***{value[-5:]}"
