"""Who may administer an organization."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from gatecast.controlplane.gateways import QUERIES
from gatecast.controlplane.rows import instant
from gatecast.controlplane.secrets import digest_of, make_token, same_digest
from gatecast.errors import NotFound
from gatecast.events import clean_identifier
from gatecast.storage.contract import Storage

#: The organization of the first admin token, and of the configured one.
DEFAULT_ORGANIZATION = "default"

#: The id of the first token is fixed: of two pods that start at once, one makes it.
_FIRST = "first"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminToken:
    """A token of those who administer an organization, without its secret."""

    id: str
    organization: str
    created_at: datetime


class AdminTokens:
    """Recognizes admin tokens, and makes the first one.

    A configured token takes the place of the first one. It is stored nowhere: whoever changes the setting has revoked
    the old one.
    """

    def __init__(self, storage: Storage) -> None:
        self._database = storage.database
        self._configured: str | None = None

    async def prepare(self, configured: str) -> str | None:
        """See to it that there is an admin token; return it if it was made just now, and never again."""
        if configured:
            self._configured = digest_of(configured)
            return None
        token = make_token("gca")
        async with self._database.transaction() as transaction:
            if await transaction.fetch_one(QUERIES["admin_tokens"]) is not None:
                return None
            made = await transaction.execute(
                QUERIES["insert_admin_token"], _FIRST, DEFAULT_ORGANIZATION, digest_of(token)
            )
        return token if made else None

    async def issue(self, organization: str) -> tuple[str, str]:
        """A new token that administers an organization: its id, and the token, which is never shown again.

        Raises:
            InvalidValue: the organization's name is blank or too long.
        """
        organization = clean_identifier("organization", organization)
        token, token_id = make_token("gca"), str(uuid4())
        async with self._database.transaction() as transaction:
            await transaction.execute(QUERIES["insert_admin_token"], token_id, organization, digest_of(token))
        return token_id, token

    async def all(self) -> list[AdminToken]:
        """Every stored token, without its secret, oldest first."""
        rows = await self._database.fetch(QUERIES["all_admin_tokens"])
        return [
            AdminToken(id=row["id"], organization=row["organization"], created_at=instant(row["created_at"]))
            for row in rows
        ]

    async def revoke(self, token_id: str) -> None:
        """End a token; the next request with it is refused, on every pod.

        Raises:
            NotFound: there is no such token.
        """
        async with self._database.transaction() as transaction:
            if not await transaction.execute(QUERIES["delete_admin_token"], token_id):
                raise NotFound("admin token", token_id)

    async def organization_of(self, token: str) -> str | None:
        """The organization that this token administers; None: it is no admin token.

        Raises:
            StorageUnavailable: that cannot be told now.
        """
        return await self.organization_of_digest(digest_of(token))

    async def organization_of_digest(self, digest: str) -> str | None:
        """The same for the SHA-256 of a token, which is what a browser session remembers.

        Raises:
            StorageUnavailable: that cannot be told now.
        """
        if self._configured is not None and same_digest(self._configured, digest):
            return DEFAULT_ORGANIZATION
        rows = await self._database.fetch(QUERIES["admin_organization"], digest)
        if not rows or not same_digest(rows[0]["digest"], digest):
            return None
        return None if self._configured is not None and rows[0]["id"] == _FIRST else rows[0]["organization"]
