"""What gateways authenticate with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from gatecast.controlplane.access.gateways import ConnectionPolicy
from gatecast.controlplane.access.token_hashing import digest_of, make_token, prefix_of, same_digest
from gatecast.controlplane.transactions.locks import lock_gateway
from gatecast.controlplane.transactions.timestamps import instant, instant_or_none
from gatecast.errors import LimitReached, NotFound
from gatecast.hub import EventHub
from gatecast.storage.contract import Database, Row, Transaction
from gatecast.storage.gathered_rows import gathered_rows
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole
from gatecast.storage.rows import as_keys

_QUERIES = Queries("gatecast.controlplane.access", "gateway_tokens.sql")

#: Most active tokens of a gateway: two, so that one can be rotated (add, switch, revoke).
MAX_ACTIVE_TOKENS = 2

#: Most revoked tokens of a gateway that are still listed.
MAX_REVOKED_TOKENS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayToken:
    """A token, without its secret."""

    id: str
    #: Its first characters.
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A token on the only occasion on which its secret is known."""

    id: str
    prefix: str
    #: The secret itself.
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayIdentity:
    """Who holds a token."""

    gateway_id: str
    token_id: str
    organization: str
    #: True: a new connection supersedes the older ones.
    newest_only: bool


class GatewayTokens:
    """Issues, lists, revokes and recognizes the tokens of gateways."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._database = hub.storage.database
        #: Gateways that connect at the same time are looked up together.
        self._owners = gathered_rows(self._database, _QUERIES["token_owners"], "digest")

    @whole
    async def issue(self, organization: str, gateway_id: str) -> IssuedToken:
        """A new token.

        Raises:
            NotFound: there is no such gateway.
            LimitReached: it has two active tokens already.
        """
        token, token_id = make_token("gcg"), str(uuid4())
        async with self._database.transaction() as transaction:
            # Locked, so that two who do this at once do not end with three tokens.
            if not await lock_gateway(transaction, organization, gateway_id):
                raise NotFound("gateway", gateway_id)
            rows = await transaction.fetch(_QUERIES["tokens"], gateway_id)
            if sum(row["revoked_at"] is None for row in rows) >= MAX_ACTIVE_TOKENS:
                raise LimitReached(f"the gateway has {MAX_ACTIVE_TOKENS} active tokens; revoke one first")
            await transaction.execute(_QUERIES["forget_revoked_tokens"], gateway_id, MAX_REVOKED_TOKENS)
            await transaction.execute(
                _QUERIES["insert_token"], token_id, gateway_id, prefix_of(token), digest_of(token)
            )
        return IssuedToken(id=token_id, prefix=prefix_of(token), token=token)

    async def of_gateway(self, gateway_id: str) -> list[GatewayToken]:
        """The tokens of a gateway, the last revoked ones included, oldest first."""
        rows = await self._database.fetch(_QUERIES["tokens"], gateway_id)
        return [
            GatewayToken(
                id=row["id"],
                prefix=row["prefix"],
                created_at=instant(row["created_at"]),
                last_used_at=instant_or_none(row["last_used_at"]),
                revoked_at=instant_or_none(row["revoked_at"]),
            )
            for row in rows
        ]

    @whole
    async def revoke(self, gateway_id: str, token_id: str) -> None:
        """Revoke a token and close its connections on every pod, in one transaction; again changes nothing.

        Raises:
            NotFound: the gateway has no such token.
        """
        async with self._database.transaction() as transaction:
            rows = await transaction.fetch(_QUERIES["tokens"], gateway_id)
            if token_id not in {row["id"] for row in rows}:
                raise NotFound("token", token_id)
            # First the mark: from here on `confirm_use` waits for us, so no connection slips in between.
            await transaction.execute(_QUERIES["revoke_token"], gateway_id, token_id)
            await self._hub.storage.presence.disconnect_token(token_id, transaction=transaction)

    async def authenticate(self, token: str) -> GatewayIdentity | None:
        """Who holds this token; None when nobody does. Writes nothing.

        Raises:
            StorageUnavailable: that cannot be told now.
        """
        digest = digest_of(token)
        return _identity(digest, await self._owners.ask(digest))

    async def confirm_use(self, token_id: str) -> bool:
        """Note that a recorded connection uses this token; False when it was revoked meanwhile."""
        return await self._database.execute(_QUERIES["confirm_use"], token_id) == 1


async def owner_of(database: Database | Transaction, token: str) -> GatewayIdentity | None:
    """Who holds this token, as far as a database or one of its transactions knows."""
    digest = digest_of(token)
    return _identity(digest, await database.fetch(_QUERIES["token_owners"], as_keys([digest])))


def _identity(digest: str, rows: Sequence[Row]) -> GatewayIdentity | None:
    for row in rows:
        if same_digest(row["digest"], digest):
            return GatewayIdentity(
                gateway_id=row["gateway_id"],
                token_id=row["token_id"],
                organization=row["organization"],
                newest_only=row["connection_policy"] == ConnectionPolicy.NEWEST_ONLY,
            )
    return None
