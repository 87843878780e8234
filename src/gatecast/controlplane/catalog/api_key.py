"""What an API key is, and those that an artifact has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from gatecast.storage.contract import Database, Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.rows import as_keys

_QUERIES = Queries("gatecast.controlplane.catalog", "api_key.sql")

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


async def keys_of_artifact(reader: Database | Transaction, artifact_id: str) -> list[ApiKey]:
    """The keys of an artifact by name, the revoked ones included."""
    return [ApiKey.of(row) for row in await reader.fetch(_QUERIES["keys"], artifact_id)]


async def keys_of_artifacts(transaction: Transaction, artifact_ids: Iterable[str]) -> dict[str, list[ApiKey]]:
    """The same for each of these artifacts, by artifact."""
    keys: dict[str, list[ApiKey]] = {artifact_id: [] for artifact_id in artifact_ids}
    for row in await transaction.fetch(_QUERIES["keys_of_artifacts"], as_keys(keys)) if keys else ():
        keys[row["artifact_id"]].append(ApiKey.of(row))
    return keys
