"""Who may administer an organization."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import uuid4

from gatecast.controlplane.access.token_hashing import digest_of, make_token, same_digest
from gatecast.controlplane.newer_releases import member
from gatecast.controlplane.transactions.timestamps import instant
from gatecast.errors import InvalidValue, NotFound
from gatecast.events import clean_identifier
from gatecast.settings import SHORTEST_TOKEN
from gatecast.storage.contract import Storage
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole

_QUERIES = Queries("gatecast.controlplane.access", "admin_tokens.sql")

#: The organization of the first admin token, and of the configured one.
DEFAULT_ORGANIZATION = "default"

#: The id of the first token is fixed: of two pods that start at once, one makes it.
_FIRST = "first"


class Role(StrEnum):
    """What somebody may do."""

    #: Everything.
    ADMIN = "admin"
    #: Read everything but secrets, and change nothing.
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks for something."""

    organization: str
    role: Role
    #: The token's id, or what an OIDC issuer calls the person.
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminToken:
    """A token of those who administer an organization, without its secret."""

    id: str
    organization: str
    #: As it is stored: a newer release may know more roles.
    role: str
    created_at: datetime


class AdminTokens:
    """Recognizes admin tokens, and makes the first one.

    A configured token takes the place of the first one. It is stored nowhere: whoever changes the setting has revoked
    the old one.
    """

    def __init__(self, storage: Storage) -> None:
        self._database = storage.database
        self._configured: str | None = None

    @whole
    async def prepare(self, configured: str) -> str | None:
        """See to it that there is an admin token; return it if it was made just now, and never again.

        Raises:
            InvalidValue: the configured one has fewer than 16 characters.
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
        """A new token for an organization: its id, and the token, which is never shown again.

        Raises:
            InvalidValue: the organization's name is blank or too long.
        """
        organization = clean_identifier("organization", organization)
        token, token_id = make_token("gca"), str(uuid4())
        await self._database.execute(_QUERIES["insert_admin_token"], token_id, organization, digest_of(token), role)
        return token_id, token

    async def all(self) -> list[AdminToken]:
        """Every stored token, without its secret, oldest first."""
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
        """End a token; the next request with it is refused, on every pod.

        Raises:
            NotFound: there is no such token.
        """
        if not await self._database.execute(_QUERIES["delete_admin_token"], token_id):
            raise NotFound("admin token", token_id)

    async def organization_of(self, token: str) -> str | None:
        """The organization that this token is for; None: it is no admin token.

        Raises:
            StorageUnavailable: that cannot be told now.
        """
        caller = await self.caller_with(token)
        return None if caller is None else caller.organization

    async def caller_with(self, token: str) -> Caller | None:
        """Who has this token; None: it is no admin token.

        Raises:
            StorageUnavailable: that cannot be told now.
        """
        return await self.caller_with_digest(digest_of(token))

    async def caller_with_digest(self, digest: str) -> Caller | None:
        """The same for the SHA-256 of a token, which is what a browser session remembers."""
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
