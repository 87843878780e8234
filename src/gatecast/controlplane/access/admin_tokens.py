"""Admin tokens: who may administer an organization, and with which role."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import uuid4

from gatecast.controlplane.access.token_hashing import digest_of, make_token, same_digest
from gatecast.controlplane.newer_releases import member
from gatecast.controlplane.transactions.timestamps import instant
from gatecast.errors import InvalidValue, NotFound
from gatecast.events import clean_identifier
from gatecast.settings import SHORTEST_TOKEN
from gatecast.storage.contract import Database
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole

_QUERIES = Queries("gatecast.controlplane.access", "admin_tokens.sql")

#: The organization of the first admin token and of the configured one.
DEFAULT_ORGANIZATION = "default"

#: The id of the first token is fixed, so that only one of two pods that start at once creates it.
_FIRST = "first"


class Role(StrEnum):
    """The rights of a credential's owner in the organization."""

    #: Read and change everything.
    ADMIN = "admin"
    #: Read everything except secrets; change nothing.
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The authenticated sender of a request."""

    organization: str
    role: Role
    #: `token <id>`, `token configured`, or the name that an OIDC issuer gives the person.
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminToken:
    """One stored admin token, without its secret."""

    id: str
    organization: str
    #: Text, not `Role`: a newer release may have stored a role that this one does not know.
    role: str
    created_at: datetime


class _Opened(Protocol):
    """An object with the tokens' database: a hub, or a storage."""

    @property
    def database(self) -> Database:
        """The database."""


class AdminTokens:
    """The admin tokens of every organization.

    A configured token replaces the first one. It is not stored, so changing the setting revokes the old one.
    """

    def __init__(self, opened: _Opened) -> None:
        self._database = opened.database
        self._configured: str | None = None

    @whole
    async def prepare(self, configured: str) -> str | None:
        """The first admin token if this call has just created it, so that it can be shown once; else None.

        With a configured token, that one is accepted from now on and no other is created.

        Raises:
            InvalidValue: the configured token has fewer than 16 characters.
        """
        if configured:
            if len(configured) < SHORTEST_TOKEN:
                raise InvalidValue("admin_token", "(hidden)", f"have at least {SHORTEST_TOKEN} characters")
            self._configured = digest_of(configured)
            return None
        token = make_token("gca")
        async with self._database.transaction() as transaction:
            if await transaction.fetch_one(_QUERIES["admin_tokens"]) is not None:
                return None
            made = await transaction.execute(
                _QUERIES["insert_admin_token"], _FIRST, DEFAULT_ORGANIZATION, digest_of(token), Role.ADMIN
            )
        return token if made else None

    async def issue(self, organization: str, role: Role = Role.ADMIN) -> tuple[str, str]:
        """The id of a new token, and the token itself, which is never shown again.

        Raises:
            InvalidValue: the organization's name is no identifier: blank, too long, or with characters not allowed.
        """
        organization = clean_identifier("organization", organization)
        token, token_id = make_token("gca"), str(uuid4())
        await self._database.execute(_QUERIES["insert_admin_token"], token_id, organization, digest_of(token), role)
        return token_id, token

    async def all(self) -> list[AdminToken]:
        """Every stored token of every organization, oldest first."""
        rows = await self._database.fetch(_QUERIES["all_admin_tokens"])
        return [
            AdminToken(
                id=row["id"],
                organization=row["organization"],
                role=row["role"],
                created_at=instant(row["created_at"]),
            )
            for row in rows
        ]

    async def revoke(self, token_id: str) -> None:
        """Delete a token; every pod refuses the next request that uses it.

        Raises:
            NotFound: no stored token has this id; the configured token is not stored.
        """
        if not await self._database.execute(_QUERIES["delete_admin_token"], token_id):
            raise NotFound("admin token", token_id)

    async def organization_of(self, token: str) -> str | None:
        """The organization that this token administers; None if it is not an admin token.

        Raises:
            StorageUnavailable: the token cannot be looked up now.
            StoredByNewerRelease: this release does not know the token's role.
        """
        caller = await self.caller_with(token)
        return None if caller is None else caller.organization

    async def caller_with(self, token: str) -> Caller | None:
        """The caller that this token authenticates; None if it is not an admin token.

        Raises:
            StorageUnavailable: the token cannot be looked up now.
            StoredByNewerRelease: this release does not know the token's role.
        """
        return await self.caller_with_digest(digest_of(token))

    async def caller_with_digest(self, digest: str) -> Caller | None:
        """As `caller_with`, for a token's hex SHA-256, which is all that a browser session keeps."""
        if self._configured is not None and same_digest(self._configured, digest):
            return Caller(organization=DEFAULT_ORGANIZATION, role=Role.ADMIN, subject="token configured")
        rows = await self._database.fetch(_QUERIES["admin_token"], digest)
        if not rows or not same_digest(rows[0]["digest"], digest):
            return None
        [row] = rows
        if self._configured is not None and row["id"] == _FIRST:
            return None
        role = member(Role, "the role", row["role"])
        return Caller(organization=row["organization"], role=role, subject=f"token {row['id']}")
