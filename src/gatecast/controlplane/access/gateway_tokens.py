"""Gateway tokens: the credential that a gateway sends when it connects (gateway-protocol.md 1.4)."""

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
from gatecast.gathering import Gathered
from gatecast.hub import EventHub
from gatecast.storage.contract import Database, Row, Transaction
from gatecast.storage.gathered_rows import gathered_rows
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole
from gatecast.storage.rows import as_keys

_QUERIES = Queries("gatecast.controlplane.access", "gateway_tokens.sql")

#: Most active tokens of a gateway: two, so that a token can be rotated (issue, switch, revoke).
MAX_ACTIVE_TOKENS = 2

#: Issuing a token keeps this many of the gateway's revoked tokens, the last revoked ones; older ones are deleted.
MAX_REVOKED_TOKENS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayToken:
    """One token of a gateway, without its secret."""

    id: str
    #: Its first ten characters, to tell tokens apart; no secret.
    prefix: str
    created_at: datetime
    #: When a gateway last connected with it; None: never.
    last_used_at: datetime | None
    #: None while it is active.
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A new token with its secret, which is not stored and cannot be shown again."""

    id: str
    prefix: str
    #: The secret itself.
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayIdentity:
    """The gateway that a token authenticates."""

    gateway_id: str
    token_id: str
    organization: str
    #: True if a new connection of the gateway supersedes its older ones.
    newest_only: bool


class GatewayTokens:
    """The tokens of all gateways."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._database = hub.database
        #: Tokens of gateways that connect at the same time are looked up in one statement (scenario S30).
        self._owners = gathered_rows(self._database, _QUERIES["token_owners"], "digest")
        #: Their use is confirmed in one statement, too, but for tokens that are locked or revoked.
        self._uses = Gathered[str, bool]("token-uses", self._confirm_unlocked)

    @whole
    async def issue(self, organization: str, gateway_id: str) -> IssuedToken:
        """A new active token of the gateway, with its secret.

        Raises:
            NotFound: the organization has no such gateway.
            LimitReached: the gateway already has two active tokens.
        """
        token, token_id = make_token("gcg"), str(uuid4())
        async with self._database.transaction() as transaction:
            # Locked, so that two calls at the same time cannot leave the gateway with three tokens.
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
        """The active and the last revoked tokens of a gateway, oldest first."""
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
        """Revoke a token, and have every pod close the connections that used it (scenario S26, promise P9).

        Both are one transaction. A second call keeps the first time of revocation.

        Raises:
            NotFound: the gateway has no such token.
        """
        async with self._database.transaction() as transaction:
            rows = await transaction.fetch(_QUERIES["tokens"], gateway_id)
            if token_id not in {row["id"] for row in rows}:
                raise NotFound("token", token_id)
            # The token first: from here on `confirm_use` waits for this transaction, so no connection slips in between.
            await transaction.execute(_QUERIES["revoke_token"], gateway_id, token_id)
            await self._hub.disconnect_token(token_id, transaction=transaction)

    async def authenticate(self, token: str) -> GatewayIdentity | None:
        """The gateway that this token authenticates; None if no active token is like this.

        Writes nothing, so that bad tokens cost no write (scenario S27).

        Raises:
            StorageUnavailable: the token cannot be looked up now; answer 503, never 401 (scenario S25).
        """
        digest = digest_of(token)
        return _identity(digest, await self._owners.ask(digest))

    async def confirm_use(self, token_id: str) -> bool:
        """Record that the token was used now; False if it has been revoked or deleted.

        Call it after the connection is recorded: then either this call sees the revocation, or the revocation sees
        the connection.
        """
        return await self._uses.ask(token_id) or await self._database.execute(_QUERIES["confirm_use"], token_id) == 1

    async def _confirm_unlocked(self, token_ids: Sequence[str]) -> list[bool]:
        """All of them, or as if none: which of them were left out is rarely worth a second question."""
        confirmed = await self._database.execute(_QUERIES["confirm_uses"], as_keys(token_ids))
        return [confirmed == len(set(token_ids))] * len(token_ids)


async def owner_of(database: Database | Transaction, token: str) -> GatewayIdentity | None:
    """As `GatewayTokens.authenticate`, read in the caller's transaction, or straight from the database."""
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
