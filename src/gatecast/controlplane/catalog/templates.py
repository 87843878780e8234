"""Templates of LLM providers: the built-in ones and those of an organization (gateway-protocol.md 4.7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gatecast.controlplane.documents import BUILT_IN_TEMPLATES, LlmProviderTemplate
from gatecast.controlplane.transactions.locks import lock_names
from gatecast.controlplane.transactions.timestamps import instant
from gatecast.errors import Conflict, LimitReached, NotFound, StaleWrite
from gatecast.hub import EventHub
from gatecast.storage.contract import Database, Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole

TEMPLATES = Queries("gatecast.controlplane.catalog", "templates.sql")

#: Most templates of an organization's own.
MAX_TEMPLATES = 200

_BUILT_IN = {template.handle: template for template in BUILT_IN_TEMPLATES}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTemplate:
    """A template that is built in, or that an organization has made."""

    template: LlmProviderTemplate
    #: True for a built-in template, which cannot be changed.
    read_only: bool
    #: Rises with every change, from 1; 0 for a built-in template.
    version: int = 0
    #: None for a built-in template, like `updated_at`.
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Templates:
    """The templates that providers can be made from, of every organization."""

    def __init__(self, hub: EventHub) -> None:
        self._database = hub.database

    async def all(self, organization: str) -> list[StoredTemplate]:
        """Every template that an organization can use: first the built-in ones, then its own by handle."""
        rows = await self._database.fetch(TEMPLATES["templates"], organization)
        built_in = [StoredTemplate(template=each, read_only=True) for each in BUILT_IN_TEMPLATES]
        return built_in + [_stored(row) for row in rows]

    async def get(self, organization: str, handle: str) -> StoredTemplate:
        """The template with this handle, built in or the organization's own.

        Raises:
            NotFound: there is no such template.
        """
        if handle in _BUILT_IN:
            return StoredTemplate(template=_BUILT_IN[handle], read_only=True)
        return await _find(self._database, organization, handle)

    @whole
    async def create(self, organization: str, template: LlmProviderTemplate) -> StoredTemplate:
        """The organization's new template, as stored.

        Raises:
            Conflict: the handle is taken, by a built-in template or by one of its own.
            LimitReached: the organization already has 200 templates of its own.
        """
        _check_own(template.handle)
        text = template.model_dump_json(by_alias=True, exclude_unset=True)
        async with self._database.transaction() as transaction:
            await lock_names(transaction, organization)
            rows = await transaction.fetch(TEMPLATES["templates"], organization)
            if template.handle in {row["handle"] for row in rows}:
                raise Conflict(f'a template "{template.handle}" exists already; choose another handle', field="handle")
            if len(rows) >= MAX_TEMPLATES:
                raise LimitReached(
                    f"an organization has at most {MAX_TEMPLATES} templates of its own; delete one first"
                )
            await transaction.execute(TEMPLATES["insert_template"], organization, template.handle, text)
            return await _find(transaction, organization, template.handle)

    @whole
    async def replace(
        self, organization: str, template: LlmProviderTemplate, *, version: int | None = None
    ) -> StoredTemplate:
        """The template as stored, in place of the organization's template with the same handle.

        Raises:
            NotFound: the organization has no template of this handle.
            Conflict: the template is built in.
            StaleWrite: it is no longer at `version`.
        """
        _check_own(template.handle)
        text = template.model_dump_json(by_alias=True, exclude_unset=True)
        async with self._database.transaction() as transaction:
            await _lock(transaction, organization, template.handle, version)
            await transaction.execute(TEMPLATES["update_template"], organization, template.handle, text)
            return await _find(transaction, organization, template.handle)

    @whole
    async def delete(self, organization: str, handle: str, *, version: int | None = None) -> None:
        """Delete a template; providers made from it stay.

        Raises:
            NotFound: the organization has no template of this handle.
            Conflict: the template is built in.
            StaleWrite: it is no longer at `version`.
        """
        _check_own(handle)
        async with self._database.transaction() as transaction:
            await _lock(transaction, organization, handle, version)
            await transaction.execute(TEMPLATES["delete_template"], organization, handle)


async def _find(reader: Database | Transaction, organization: str, handle: str) -> StoredTemplate:
    for row in await reader.fetch(TEMPLATES["template"], organization, handle):
        return _stored(row)
    raise NotFound("LLM provider template", handle)


async def _lock(transaction: Transaction, organization: str, handle: str, version: int | None) -> None:
    """Return once no other transaction can change the template, and it exists at this version."""
    await lock_names(transaction, organization)
    stored = await _find(transaction, organization, handle)
    if version not in (None, stored.version):
        raise StaleWrite("LLM provider template", f'"{stored.version}"')


def _check_own(handle: str) -> None:
    if handle in _BUILT_IN:
        raise Conflict(f'the template "{handle}" is built in and cannot be changed', field="handle")


def _stored(row: Row) -> StoredTemplate:
    return StoredTemplate(
        template=LlmProviderTemplate.model_validate_json(row["document"]),
        read_only=False,
        version=row["version"],
        created_at=instant(row["created_at"]),
        updated_at=instant(row["updated_at"]),
    )
