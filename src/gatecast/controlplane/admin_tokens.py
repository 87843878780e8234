"""Who may administer an organization."""

from __future__ import annotations

from uuid import uuid4

from gatecast.controlplane.gateways import QUERIES
from gatecast.controlplane.secrets import digest_of, make_token, same_digest
from gatecast.storage.contract import Storage

#: The organization of the first admin token.
DEFAULT_ORGANIZATION = "default"


class AdminTokens:
    """Recognizes admin tokens, and makes the first one."""

    def __init__(self, storage: Storage) -> None:
        self._database = storage.database

    async def prepare(self, configured: str) -> str | None:
        """See to it that there is an admin token; return it if it was made just now, and never again.

        A configured token is accepted from then on beside those that exist.
        """
        token = configured or make_token("gca")
        async with self._database.transaction() as transaction:
            if not configured and await transaction.fetch_one(QUERIES["admin_tokens"]) is not None:
                return None
            # The id of the first one is fixed: of two pods that start at once, one makes it.
            token_id = str(uuid4()) if configured else "first"
            made = await transaction.execute(
                QUERIES["insert_admin_token"], token_id, DEFAULT_ORGANIZATION, digest_of(token)
            )
        return token if made and not configured else None

    async def organization_of(self, token: str) -> str | None:
        """The organization that this token administers; None: it is no admin token."""
        digest = digest_of(token)
        rows = await self._database.fetch(QUERIES["admin_organization"], digest)
        return rows[0]["organization"] if rows and same_digest(rows[0]["digest"], digest) else None
