"""Artifacts in the database: the document, its credentials, and the rendered document that gateways download.

All three are encrypted, each bound to its own row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

from pydantic import ValidationError

from gatecast.controlplane.catalog.artifact_kinds import BY_KIND, LLM_PROVIDER, ArtifactKind, kind_of, noun_of
from gatecast.controlplane.documents import (
    MASK,
    MODELS,
    STORED,
    Artifact,
    LlmProvider,
    LlmProxy,
    ProviderReference,
    credential_paths,
    render,
    take_credentials,
)
from gatecast.controlplane.documents.openapi import written_openapi
from gatecast.controlplane.documents.texts import is_id
from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.transactions.timestamps import instant
from gatecast.controlplane.transactions.unit_of_work import UnitOfWork
from gatecast.errors import InvalidValue, Mistakes, NotFound, SecretKeyMissing, StoredByNewerRelease
from gatecast.events.json_values import is_same
from gatecast.storage.contract import Database, Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.rows import as_keys, as_rows
from gatecast.telemetry import get_logger

_QUERIES = Queries("gatecast.controlplane.catalog", "artifact_store.sql")

#: Most documents read at once to complete their routes.
_BATCH = 200

_logger = get_logger("artifact-store")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArtifact:
    """An artifact, with one revision of its document."""

    id: str
    organization: str
    artifact_kind: ArtifactKind
    #: Its name on gateways; never changes.
    handle: str
    #: The operator's document, with every credential masked.
    document: Artifact
    #: The handle of the secret for each place of the document that holds a credential.
    credentials: Mapping[str, str]
    #: Id of this revision of the document, and of the rendered document that gateways download.
    content_id: str
    #: The version of the artifact, not of the revision; rises with every change.
    version: int
    created_at: datetime
    updated_at: datetime
    #: Id of its API description; None: it has none, or was read without it.
    openapi_id: str | None = None


class ArtifactStore:
    """The stored artifacts of every organization, whether or not they are deployed."""

    def __init__(self, encryption: Encryption) -> None:
        self._encryption = encryption

    # --- reading ------------------------------------------------------------------------------------------------

    def artifact_of(self, row: Row) -> StoredArtifact:
        """The artifact in a row of this module's statements.

        Raises:
            StoredByNewerRelease: this release cannot read its document, or does not know its kind.
            SecretKeyMissing: this pod has no key that decrypts it.
        """
        artifact_kind = BY_KIND[kind_of(row)]
        text = self._encryption.open(row["document"], place=document_place(row["content_id"]))
        document = _document_in(row, text)
        if (openapi_id := row.get("openapi_id")) is not None:
            openapi = json.loads(self._encryption.open(row["openapi"], place=openapi_place(openapi_id)))
            document = document.model_copy(update={"openapi": openapi})
        return StoredArtifact(
            id=row["id"],
            organization=row["organization"],
            artifact_kind=artifact_kind,
            handle=row["handle"],
            document=document,
            credentials=json.loads(row["credentials"]),
            content_id=row["content_id"],
            version=row["version"],
            created_at=instant(row["created_at"]),
            updated_at=instant(row["updated_at"]),
            openapi_id=openapi_id,
        )

    def content_of(self, row: Row) -> str:
        """The rendered document in a row with the columns `id` and `content`, as `sealed_samples` returns it.

        Raises:
            SecretKeyMissing: this pod has no key that decrypts it.
        """
        return self._encryption.open(row["content"], place=content_place(row["id"]))

    async def find(
        self,
        reader: Database | Transaction,
        organization: str,
        artifact_kind: ArtifactKind,
        artifact_id: str,
        *,
        whole: bool = False,
    ) -> StoredArtifact:
        """The artifact with this id; with `whole`, its API description too.

        Raises:
            NotFound: the organization has no such artifact of this kind.
            StoredByNewerRelease, SecretKeyMissing: it cannot be read, as in `artifact_of`.
        """
        query = _QUERIES["whole_artifact" if whole else "artifact"]
        for row in await reader.fetch(query, organization, artifact_kind.kind, artifact_id):
            return self.artifact_of(row)
        raise NotFound(artifact_kind.noun, artifact_id)

    async def id_of(
        self, reader: Database | Transaction, organization: str, artifact_kind: ArtifactKind, handle: str
    ) -> str:
        """The id of the artifact with this handle; empty if the organization has none of this kind."""
        rows = await reader.fetch(_QUERIES["artifact_named"], organization, artifact_kind.kind, handle)
        return str(rows[0]["id"]) if rows else ""

    async def in_revision(self, transaction: Transaction, artifact_id: str, content_id: str) -> StoredArtifact:
        """An artifact with the document of an earlier revision.

        Raises:
            NotFound: the artifact has no such revision.
        """
        row = await transaction.fetch_one(_QUERIES["artifact_in_revision"], artifact_id, content_id)
        if row is None:
            raise NotFound("revision", content_id)
        return self.artifact_of(row)

    async def in_revisions(self, transaction: Transaction, contents: Iterable[str]) -> dict[str, StoredArtifact]:
        """The artifact with the document of each of these revisions, by content id; unknown ids are left out."""
        rows = await transaction.fetch(_QUERIES["contents"], as_keys(contents))
        return {row["content_id"]: self.artifact_of(row) for row in rows}

    async def lock(
        self, change: UnitOfWork, organization: str, artifact_kind: ArtifactKind, artifact_id: str, *others: Artifact
    ) -> StoredArtifact:
        """The artifact, locked against other changes until this one ends.

        Locks the providers that it and the other documents need, then the artifact, and then reads it once more. Every
        change locks in this order, so no two deadlock.

        Raises:
            NotFound: the organization has no such artifact of this kind.
            InvalidValue: one of the providers does not exist.
        """
        found = await self.find(change.transaction, organization, artifact_kind, artifact_id)
        await self.lock_providers(change, organization, found.document, *others)
        await change.transaction.fetch(
            _QUERIES["lock_artifacts"], organization, artifact_kind.kind, as_keys([artifact_id])
        )
        return await self.find(change.transaction, organization, artifact_kind, artifact_id)

    async def with_provider_ids(self, transaction: Transaction, organization: str, document: Artifact) -> Artifact:
        """The document with provider handles replaced by ids; handles of no provider stay as they are.

        Raises:
            InvalidDocument: it names one provider twice.
        """
        ids: dict[str, str] = {}
        for handle in provider_ids(document):
            if not is_id(handle):
                found = await self.id_of(transaction, organization, LLM_PROVIDER, handle)
                ids |= {handle: found} if found else {}
        return document.with_providers(ids) if ids else document

    async def lock_providers(self, change: UnitOfWork, organization: str, *documents: Artifact) -> None:
        """Lock the providers that these documents need: none is deleted or changed until this change ends.

        Raises:
            InvalidValue: one of them does not exist.
        """
        wanted = {each for document in documents for each in provider_ids(document)}
        if not wanted:
            return
        values = (organization, LLM_PROVIDER.kind, as_keys(wanted))
        found = {row["id"] for row in await change.transaction.fetch(_QUERIES["lock_artifacts"], *values)}
        if missing := wanted - found:
            raise InvalidValue(
                "provider.id", min(missing), "be the id or the handle of an LLM provider of your organization"
            )

    async def _providers(self, transaction: Transaction, document: Artifact) -> dict[str, StoredArtifact]:
        """The providers that a document needs, by id; they must be locked."""
        needed = provider_ids(document)
        rows = await transaction.fetch(_QUERIES["artifacts_by_id"], as_keys(needed)) if needed else []
        return {row["id"]: self.artifact_of(row) for row in rows}

    # --- writing ------------------------------------------------------------------------------------------------

    async def insert(
        self, change: UnitOfWork, organization: str, artifact_kind: ArtifactKind, handle: str, document: Artifact
    ) -> StoredArtifact:
        """The new artifact, stored with its first revision.

        The caller holds the lock of the organization's names, has checked that the handle is free, and has locked the
        providers.

        Raises:
            InvalidValue: the document masks a credential, but none is stored yet.
            SecretKeyMissing: there is no key to encrypt it with.
        """
        draft = _draft(str(uuid4()), organization, handle, document, stored={})
        columns = (document.name, document.version, draft.content_id)
        await change.transaction.execute(
            _QUERIES["insert_artifact"], draft.id, organization, artifact_kind.kind, handle, *columns
        )
        return await self._complete(change, artifact_kind, draft)

    async def update(self, change: UnitOfWork, artifact: StoredArtifact, document: Artifact) -> StoredArtifact:
        """The artifact with another document, stored as its new revision.

        A masked credential keeps its stored value. The caller has locked the artifact and its providers, and has read
        the artifact with its API description, which is stored again only if it changed.

        Raises:
            InvalidValue: a masked credential has no stored value, or its type of authentication changed
                (gateway-protocol.md 4.1).
            SecretKeyMissing: there is no key to encrypt it with.
        """
        _check_kept_credentials(artifact.document, document)
        draft = _draft(artifact.id, artifact.organization, artifact.handle, document, stored=artifact.credentials)
        if is_same(_openapi_of(document), _openapi_of(artifact.document)):
            draft = replace(draft, openapi_id=artifact.openapi_id)
        await self.begin_from(change, artifact.id, document, draft.content_id)
        return await self._complete(change, artifact.artifact_kind, draft)

    async def begin_from(self, change: UnitOfWork, artifact_id: str, document: Artifact, content_id: str) -> None:
        """Make the revision `content_id`, which holds this document, the present one of a locked artifact."""
        columns = (document.name, document.version, content_id)
        await change.transaction.execute(_QUERIES["update_artifact"], artifact_id, *columns)

    async def _complete(self, change: UnitOfWork, artifact_kind: ArtifactKind, draft: _Draft) -> StoredArtifact:
        """Store the artifact's secrets, API description, content and routes, and return the artifact."""
        execute = change.transaction.execute
        for place, value in draft.new.items():
            handle = draft.handles[place]
            await execute(
                _QUERIES["insert_secret"],
                handle,
                draft.id,
                self._encryption.encrypt(value, place=secret_place(handle)),
            )
        rendered = await self._rendered(change.transaction, draft)
        openapi_id = draft.openapi_id or await self._insert_openapi(change, draft)
        columns = self._columns(draft, rendered)
        await execute(_QUERIES["insert_content"], draft.content_id, draft.id, *columns, openapi_id)
        await execute(_QUERIES["insert_routes"], as_rows(_routes(draft.content_id, draft.document)))
        await execute(_QUERIES["insert_needs"], draft.content_id, as_keys(provider_ids(draft.document)))
        await execute(_QUERIES["insert_content_secrets"], draft.content_id, as_keys(draft.handles.values()))
        stored = await self.find(change.transaction, draft.organization, artifact_kind, draft.id)
        return replace(stored, document=draft.document, openapi_id=openapi_id)

    async def _insert_openapi(self, change: UnitOfWork, draft: _Draft) -> str | None:
        if (openapi := _openapi_of(draft.document)) is None:
            return None
        openapi_id = str(uuid4())
        sealed = self._encryption.encrypt(written_openapi(openapi), place=openapi_place(openapi_id))
        await change.transaction.execute(_QUERIES["insert_openapi"], openapi_id, draft.id, sealed)
        return openapi_id

    async def complete_routes(self, change: UnitOfWork) -> None:
        """Store the routes of revisions that an older release stored without routes.

        Routes of a document that this pod cannot read stay unknown, which is logged.
        """
        after: str | None = ""
        while after is not None:
            after = await self.complete_some_routes(change.transaction, after)

    async def complete_some_routes(self, transaction: Transaction, after: str) -> str | None:
        """As `complete_routes`, for the next 200 contents after this id; return the last id, or None at the end."""
        rows = await transaction.fetch(_QUERIES["unrouted"], after, _BATCH)
        if not rows:
            return None
        documents = {row["id"]: self._readable(row) for row in rows}
        known = {content_id: document for content_id, document in documents.items() if document is not None}
        routes = [route for content_id, document in known.items() for route in _routes(content_id, document)]
        await transaction.execute(_QUERIES["insert_routes"], as_rows(routes))
        await transaction.execute(_QUERIES["note_routed"], as_keys(known))
        return str(rows[-1]["id"])

    def _readable(self, row: Row) -> Artifact | None:
        """The document in a row; None if it cannot be read, which must not keep others from being deployed."""
        try:
            text = self._encryption.open(row["document"], place=document_place(row["id"]))
            return _document_in(row, text)
        except (SecretKeyMissing, StoredByNewerRelease) as error:
            _logger.warning("routes-unknown", content=row["id"], problem=type(error).__name__)
            return None

    def _columns(self, draft: _Draft, rendered: bytes) -> tuple[object, ...]:
        document = draft.document
        text = document.model_dump_json(by_alias=True, exclude_unset=True, exclude={"openapi"})
        return (
            document.name,
            document.version,
            self._encryption.encrypt(text, place=document_place(draft.content_id)),
            json.dumps(dict(draft.handles)),
            self._encryption.encrypt(rendered.decode(), place=content_place(draft.content_id)),
        )

    async def _rendered(self, transaction: Transaction, draft: _Draft) -> bytes:
        providers = await self._providers(transaction, draft.document)
        references = {each.id: reference_to(each) for each in providers.values()}
        if not isinstance(draft.document, LlmProxy):
            return render(draft.document, handle=draft.handle, credentials=draft.handles)
        return render(
            draft.document,
            handle=draft.handle,
            credentials=draft.handles,
            provider=references[draft.document.provider.id],
            additional=references,
        )


def _routes(content_id: str, document: Artifact) -> list[dict[str, object]]:
    return [
        {"content_id": content_id, "host": route.host, "context": route.context} for route in sorted(document.routes())
    ]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A revision that is about to be stored."""

    id: str
    organization: str
    handle: str
    #: With every credential masked.
    document: Artifact
    #: The handle of the secret for each place that holds a credential.
    handles: Mapping[str, str]
    #: The values of the new secrets, by place.
    new: Mapping[str, str]
    content_id: str
    #: Id of the API description if it is already stored.
    openapi_id: str | None = None


def _draft(
    artifact_id: str, organization: str, handle: str, document: Artifact, *, stored: Mapping[str, str]
) -> _Draft:
    """The revision to store: a masked credential keeps its secret, any other becomes a new secret with a new handle.

    Raises:
        InvalidValue: a credential is masked, but none is stored at its place.
    """
    masked, new = take_credentials(document)
    handles: dict[str, str] = {}
    mistakes = Mistakes()
    for place in credential_paths(masked):
        if place in new:
            handles[place] = f"gatecast-{uuid4()}"
        elif place in stored:
            handles[place] = stored[place]
        else:
            mistakes.note(InvalidValue(f"{place}.value", MASK, "be the credential itself, because none is stored yet"))
    mistakes.raise_any()
    return _Draft(artifact_id, organization, handle, masked, handles, new, str(uuid4()))


def _check_kept_credentials(before: Artifact, after: Artifact) -> None:
    """Return if no masked credential has another type of authentication than before (gateway-protocol.md 4.1).

    Raises:
        InvalidValue: one has; another type needs another credential.
    """
    mistakes = Mistakes()
    types = {place: auth.type for place, auth in before.auths()}
    for place, auth in after.auths():
        if auth.value == MASK and types.get(place, auth.type) != auth.type:
            rule = "be given again, because the type of authentication has changed"
            mistakes.note(InvalidValue(f"{place}.value", MASK, rule))
    mistakes.raise_any()


def _document_in(row: Row, text: str) -> Artifact:
    try:
        return MODELS[kind_of(row)].model_validate_json(text, context=STORED)
    except ValidationError:
        raise StoredByNewerRelease(f"the document of a {noun_of(row['kind'])}") from None


def provider_ids(document: Artifact) -> list[str]:
    """The ids of the providers that a document needs, each once and sorted, which is the order of their locks."""
    if not isinstance(document, LlmProxy):
        return []
    return sorted({document.provider.id, *(each.id for each in document.additional_providers or ())})


def reference_to(provider: StoredArtifact) -> ProviderReference:
    """The fields of this provider in a proxy's rendered document: its handle and vhost."""
    document = provider.document
    return ProviderReference(
        handle=provider.handle, vhost=document.vhost if isinstance(document, LlmProvider) else None
    )


def _openapi_of(document: Artifact) -> object:
    """The document's API description; None if it has none, or documents of its kind never do."""
    return getattr(document, "openapi", None)


def openapi_place(openapi_id: str) -> str:
    """The place that an API description is encrypted for."""
    return f"openapi:{openapi_id}"


def document_place(content_id: str) -> str:
    """The place that an operator's document is encrypted for."""
    return f"document:{content_id}"


async def sealed_samples(database: Database) -> Sequence[Row]:
    """One row with the id and the encrypted content of a document, to test a key with; none while nothing is stored."""
    return await database.fetch(_QUERIES["any_content"])


def content_place(content_id: str) -> str:
    """The place that a rendered document is encrypted for."""
    return f"content:{content_id}"


def secret_place(handle: str) -> str:
    """The place that a credential is encrypted for."""
    return f"secret:{handle}"
