"""The API keys of artifacts, as they are stored (gateway-protocol.md 2.5, 5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from gatecast.storage.contract import Database, Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.rows import as_keys

_QUERIES = Queries("gatecast.controlplane.catalog", "api_key.sql")

#: Most active keys of an artifact. A gateway counts all keys of the control plane as one user's, and drops any more.
MAX_ACTIVE_KEYS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One API key of an artifact, without its value. Times are milliseconds since 1970, in UTC."""

    id: str
    artifact_id: str
    #: Unique among the artifact's active keys.
    name: str
    #: The part of its value that may be shown, from `mask_of`.
    mask: str
    #: Its value hashed by `hash_of`.
    sha256: str
    #: None: it never expires.
    expires_at: int | None
    created_at: int
    #: When it last changed: later than every earlier change of a key of its artifact.
    updated_at: int
    #: None while it is not revoked.
    revoked_at: int | None = None
    #: The newest version under which the unchanged key was republished to a gateway; 0: it never was.
    renewed_at: int = 0
    #: The change that published its expiry to gateways; 0: its expiry is not published.
    ended_at: int = 0

    @classmethod
    def of(cls, row: Row) -> ApiKey:
        """The key in a row."""
        return cls(**{name: row[name] for name in cls.__slots__})

    @property
    def version(self) -> int:
        """The number that gateways compare: they ignore a key unless it is newer than theirs of the same name."""
        return max(self.updated_at, self.renewed_at)

    @property
    def has_ended(self) -> bool:
        """Whether its time was over when a pod last looked, by the database's clock."""
        return 0 < self.updated_at <= self.ended_at


def hash_of(value: str) -> str:
    """The hex SHA-256 by which gateways know a key; blanks around the value do not count (gateway-protocol.md 5)."""
    return sha256(value.strip().encode()).hexdigest()


def mask_of(value: str) -> str:
    """A key's value as it may be shown: `***` and its last five characters."""
    return f"***{value[-5:]}"


async def keys_of_artifact(reader: Database | Transaction, artifact_id: str) -> list[ApiKey]:
    """Every key of an artifact by name, revoked ones included; keys of one name in the order they were created."""
    return [ApiKey.of(row) for row in await reader.fetch(_QUERIES["keys"], artifact_id)]


async def keys_of_artifacts(transaction: Transaction, artifact_ids: Iterable[str]) -> dict[str, list[ApiKey]]:
    """As `keys_of_artifact`, for each of these artifacts, by artifact id; an empty list for one without keys."""
    keys: dict[str, list[ApiKey]] = {artifact_id: [] for artifact_id in artifact_ids}
    for row in await transaction.fetch(_QUERIES["keys_of_artifacts"], as_keys(keys)) if keys else ():
        keys[row["artifact_id"]].append(ApiKey.of(row))
    return keys
