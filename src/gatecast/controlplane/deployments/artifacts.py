"""Creates, changes and deletes artifacts, and publishes the changes to the gateways that have them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from gatecast.controlplane.catalog.artifact_kinds import ArtifactKind
from gatecast.controlplane.catalog.artifact_store import ArtifactStore, StoredArtifact
from gatecast.controlplane.deployments.artifact_events import key_revoked
from gatecast.controlplane.deployments.placements import (
    Deployment,
    DeploymentState,
    Desired,
    deployment_of,
    find_placement,
    placements_of,
    states_on,
)
from gatecast.controlplane.deployments.placing import delete
from gatecast.controlplane.deployments.preflight import check_known_template
from gatecast.controlplane.deployments.rollouts import Rollouts, check_unneeded, keys_of
from gatecast.controlplane.documents import Artifact, Route, check_handle, derive_handle, first_free
from gatecast.controlplane.newer_releases import known
from gatecast.controlplane.transactions.timestamps import instant
from gatecast.controlplane.transactions.unit_of_work import UnitOfWork, begin_unit_of_work
from gatecast.errors import Conflict, InvalidValue, NotFound, StaleWrite
from gatecast.events.json_values import is_same
from gatecast.hub import EventHub
from gatecast.storage.contract import Database, Receipt, Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole

_QUERIES = Queries("gatecast.controlplane.deployments", "artifacts.sql")

#: Most artifacts with the same context that are shown.
_MAX_CLASHES = 100

#: A follower of artifacts hears of a deletion for this long.
_DELETED_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A requested change of an existing artifact."""

    #: Makes the new document from the stored one.
    document: Callable[[Artifact], Artifact]
    #: Where it should run; None: where it runs now.
    gateways: Collection[str] | None = None
    #: Where it may be undeployed because `gateways` leaves it out (scenario S32).
    undeploy: Collection[str] = field(default_factory=frozenset)
    #: Change it only if it is still at this version; None: in any case.
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """What was last published to a gateway for an artifact."""

    #: As it is stored.
    desired: str
    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Clash:
    """Another artifact with the same context on the gateway, which serves only one of the two."""

    gateway_id: str
    #: As it is stored: a newer release may know more kinds.
    kind: str
    handle: str
    route: Route


@dataclass(frozen=True, slots=True)
class PlacedArtifact:
    """An artifact, and where it runs."""

    artifact: StoredArtifact
    #: What was last published to each gateway, by gateway.
    running: Sequence[Running]
    clashes: Sequence[Clash]


class ArtifactPage(NamedTuple):
    """Artifacts, without those that only a newer release can read."""

    items: list[StoredArtifact]
    #: The handle that the next page begins after; None: there is none.
    next: str | None


@dataclass(frozen=True, slots=True)
class Placed:
    """The last published deployment on a gateway, and its artifact."""

    kind: str
    handle: str
    deployment: Deployment


@dataclass(frozen=True, slots=True)
class LastPublished:
    """What was last published to a gateway for an artifact, which may be deleted."""

    artifact_id: str
    gateway_id: str
    kind: str
    deployment_id: str
    #: The id of the last event.
    event_id: str
    #: Empty when the artifact is deleted.
    handle: str
    #: None when the artifact is deleted.
    deployment: Deployment | None


class Artifacts:
    """LLM providers, LLM proxies, MCP proxies and REST APIs. One of another organization does not exist."""

    def __init__(self, hub: EventHub, store: ArtifactStore) -> None:
        self._hub = hub
        self._store = store
        self._rollouts = Rollouts(store)
        self._database = hub.database

    async def complete_routes(self) -> None:
        """Store the missing routes of an older release's contents, before the first deployment has to wait for that."""
        after: str | None = ""
        while after is not None:
            after = await self._complete_some_routes(after)

    @whole
    async def _complete_some_routes(self, after: str) -> str | None:
        async with self._database.transaction() as transaction:
            return await self._store.complete_some_routes(transaction, after)

    # --- reading ------------------------------------------------------------------------------------------------

    async def get(self, organization: str, artifact_kind: ArtifactKind, artifact_id: str) -> StoredArtifact:
        """One artifact.

        Raises:
            NotFound: there is none of this kind in this organization.
        """
        return await self._store.find(self._database, organization, artifact_kind, artifact_id, whole=True)

    async def id_of(self, organization: str, artifact_kind: ArtifactKind, handle: str) -> str:
        """The id of the artifact with this handle.

        Raises:
            NotFound: there is none of this kind in this organization.
        """
        if found := await self._store.id_of(self._database, organization, artifact_kind, handle):
            return found
        raise NotFound(artifact_kind.noun, handle)

    async def check_exists(self, organization: str, artifact_kind: ArtifactKind, artifact_id: str) -> None:
        """Return if there is such an artifact.

        Raises:
            NotFound: there is none of this kind in this organization.
        """
        if not await self._database.fetch(_QUERIES["exists"], organization, artifact_kind.kind, artifact_id):
            raise NotFound(artifact_kind.noun, artifact_id)

    async def page(self, organization: str, artifact_kind: ArtifactKind, *, after: str, limit: int) -> ArtifactPage:
        """At most `limit` artifacts whose handles come after `after`, ordered by handle.

        Without the descriptions of their APIs, which may be large.
        """
        rows = await self._database.fetch(_QUERIES["artifacts"], organization, artifact_kind.kind, after, limit + 1)
        following = rows[limit - 1]["handle"] if len(rows) > limit else None
        return ArtifactPage(known(rows[:limit], self._store.artifact_of), following)

    async def running(self, artifact_id: str) -> list[Running]:
        """The last published deployment of an artifact on each gateway."""
        return await _running_on(self._database, artifact_id)

    async def clashes(self, artifact_id: str) -> list[Clash]:
        """The first 100 others that should be served where an artifact is, which an older release let them."""
        return await _clashes_of(self._database, artifact_id)

    async def placed(self, organization: str, artifact_kind: ArtifactKind, artifact_id: str) -> PlacedArtifact:
        """One artifact, and where it runs.

        Raises:
            NotFound: there is none of this kind in this organization.
        """
        artifact = await self.get(organization, artifact_kind, artifact_id)
        return PlacedArtifact(artifact, await self.running(artifact_id), await self.clashes(artifact_id))

    async def _placed_by(self, change: UnitOfWork, artifact: StoredArtifact) -> PlacedArtifact:
        """The same while it is changed: what cannot be answered is not done, so that asking again is no conflict."""
        await change.write()
        place = (artifact.organization, artifact.artifact_kind, artifact.id)
        whole = await self._store.find(change.transaction, *place, whole=True)
        running = await _running_on(change.transaction, artifact.id)
        return PlacedArtifact(whole, running, await _clashes_of(change.transaction, artifact.id))

    async def running_of(self, artifacts: Sequence[StoredArtifact], *, after: str) -> dict[str, list[Running]]:
        """The same for the artifacts of a page that begins after `after`, by artifact."""
        found: dict[str, list[Running]] = {artifact.id: [] for artifact in artifacts}
        if artifacts:
            last = artifacts[-1]
            values = (last.organization, last.artifact_kind.kind, after, last.handle)
            for row in await self._database.fetch(_QUERIES["current_deployments_of_page"], *values):
                found.setdefault(row["artifact_id"], []).append(_running(row))
        return found

    async def on_gateway(self, gateway_id: str) -> list[Placed]:
        """Everything that was published to a gateway, by kind and handle."""
        rows = await states_on(self._database, gateway_id)
        return [Placed(row["kind"], row["handle"], deployment_of(row)) for row in rows]

    async def last_published_on_gateway(self, gateway_id: str, *, after: str, limit: int) -> list[LastPublished]:
        """At most `limit` of what was last published to a gateway, for artifact ids after `after`, in their order.

        Artifacts that it is to delete are included until it is known to have deleted them.
        """
        rows = await self._database.fetch(_QUERIES["last_published_on_gateway"], gateway_id, after, limit)
        return [_told(row) for row in rows]

    # --- changing -----------------------------------------------------------------------------------------------

    @whole
    async def create(
        self,
        organization: str,
        artifact_kind: ArtifactKind,
        document: Artifact,
        *,
        handle: str | None = None,
        gateways: Collection[str] = (),
    ) -> PlacedArtifact:
        """Store an artifact and let these gateways run it, in one transaction.

        Raises:
            Conflict: the handle, or the name with this version, is taken; or a gateway lacks what it needs.
            NotFound: there is no such gateway.
            InvalidValue: the document names a provider that does not exist.
        """
        if handle is not None:
            check_handle(handle)
        async with begin_unit_of_work(self._hub) as change:
            await change.lock_names(organization)
            await _check_name(change, organization, artifact_kind, document)
            document = await self._store.with_provider_ids(change.transaction, organization, document)
            handle = await _free_handle(change, organization, artifact_kind, document, handle)
            await check_known_template(change.transaction, organization, document)
            await self._store.lock_providers(change, organization, document)
            await self._store.complete_routes(change)
            placed = await _placed(change, organization, document)
            artifact = await self._store.insert(change, organization, artifact_kind, handle, placed)
            await self._rollouts.run_on(change, artifact, gateways)
            return await self._placed_by(change, artifact)

    @whole
    async def update(
        self, organization: str, artifact_kind: ArtifactKind, artifact_id: str, edit: Edit
    ) -> PlacedArtifact:
        """Change an artifact, and let every gateway that runs it run the new revision, in one transaction.

        Raises:
            NotFound: there is no such artifact, or gateway.
            StaleWrite: it is not at the named version any more.
            Conflict: the name is taken, a gateway lacks what it needs, or the change would undeploy it from a gateway
                that `undeploy` does not name.
        """
        async with begin_unit_of_work(self._hub) as change:
            # Documents change under this lock only, so what is read here stays true.
            await change.lock_names(organization)
            current = await self._store.find(change.transaction, organization, artifact_kind, artifact_id, whole=True)
            _check_version(current, edit.version)
            edited = edit.document(current.document)
            edited = await self._store.with_provider_ids(change.transaction, organization, edited)
            wanted = await _placed(change, organization, edited, artifact_id)
            await self._store.lock_providers(change, organization, current.document, wanted)
            await self._store.lock(change, organization, artifact_kind, artifact_id)
            if _is_same(wanted, current.document):
                await self._rerun(change, current, edit, everywhere=False)
                return await self._placed_by(change, current)
            await _check_name(change, organization, artifact_kind, wanted, artifact_id)
            await check_known_template(change.transaction, organization, wanted, current.document)
            changed = await self._store.update(change, current, wanted)
            await self._rerun(change, changed, edit, everywhere=True)
            return await self._placed_by(change, changed)

    @whole
    async def delete(
        self, organization: str, artifact_kind: ArtifactKind, artifact_id: str, *, version: int | None = None
    ) -> Sequence[Receipt]:
        """Delete an artifact and its keys, everywhere, in one transaction; return the receipts of its events.

        Raises:
            NotFound: there is no such artifact.
            StaleWrite: it is not at the named version any more.
            Conflict: proxies need it; nothing was changed anywhere (scenario S33).
        """
        async with begin_unit_of_work(self._hub) as change:
            await change.lock_names(organization)
            artifact = await self._store.lock(change, organization, artifact_kind, artifact_id)
            _check_version(artifact, version)
            await check_unneeded(change, artifact)
            placements = await placements_of(change, artifact_id)
            await change.lock_gateways(organization, [each.gateway_id for each in placements])
            keys = await keys_of(change, artifact_id)
            for placement in placements:
                # A gateway keeps the keys of some kinds of artifacts when it deletes them.
                change.events += [key_revoked(key, placement.gateway_id) for key in keys]
                delete(change, placement, organization)
            await _remove(change.transaction, organization, artifact_id)
        return change.receipts

    # --- what runs where ----------------------------------------------------------------------------------------

    @whole
    async def deploy(
        self,
        organization: str,
        artifact_kind: ArtifactKind,
        artifact_id: str,
        gateway_id: str,
        *,
        version: int | None = None,
    ) -> Deployment:
        """Deploy the artifact's present document to a gateway, as a new revision.

        Raises:
            NotFound: there is no such artifact, or gateway.
            StaleWrite: the artifact is not at the named version any more.
            Conflict: the gateway lacks what the artifact needs.
        """
        async with begin_unit_of_work(self._hub) as change:
            artifact = await self._store.lock(change, organization, artifact_kind, artifact_id)
            _check_version(artifact, version)
            [deployment_id] = await self._rollouts.run_on(change, artifact, [gateway_id])
            return await _find_deployment(change, artifact_id, deployment_id)

    @whole
    async def restore(
        self,
        organization: str,
        artifact_kind: ArtifactKind,
        artifact_id: str,
        deployment_id: str,
        *,
        version: int | None = None,
    ) -> Deployment:
        """Deploy the content of an earlier deployment to its gateway again, as a new revision.

        If every gateway then runs this content, it becomes the artifact's present document, which changes start from.

        Raises:
            NotFound: there is no such artifact, or deployment.
            StaleWrite: the artifact is not at the named version any more.
            Conflict: the gateway lacks what that revision needs, or has another artifact of its name.
        """
        async with begin_unit_of_work(self._hub) as change:
            await change.lock_names(organization)
            await self._store.find(change.transaction, organization, artifact_kind, artifact_id)
            earlier = await _find_deployment(change, artifact_id, deployment_id)
            revision = await self._store.in_revision(change.transaction, artifact_id, earlier.content_id)
            try:
                artifact = await self._store.lock(change, organization, artifact_kind, artifact_id, revision.document)
            except InvalidValue:
                raise Conflict("a provider that this revision needs no longer exists") from None
            _check_version(artifact, version)
            # It may have been forgotten before it was locked.
            earlier = await _find_deployment(change, artifact_id, deployment_id)
            [restored] = await self._rollouts.run_on(change, revision, [earlier.gateway_id])
            await _begin_from(self._store, change, artifact, revision)
            return await _find_deployment(change, artifact_id, restored)

    @whole
    async def undeploy(
        self,
        organization: str,
        artifact_kind: ArtifactKind,
        artifact_id: str,
        gateway_id: str,
        *,
        version: int | None = None,
    ) -> Deployment:
        """Undeploy the artifact from a gateway, or try once more to do so.

        Raises:
            NotFound: there is no such artifact, or it was never on this gateway.
            StaleWrite: the artifact is not at the named version any more.
            Conflict: proxies on that gateway need it.
        """
        async with begin_unit_of_work(self._hub) as change:
            artifact = await self._store.lock(change, organization, artifact_kind, artifact_id)
            _check_version(artifact, version)
            await change.lock_gateways(organization, [gateway_id])
            placement = await find_placement(change, artifact_id, gateway_id)
            if placement is None:
                raise NotFound("deployment on gateway", gateway_id)
            deployment = await _find_deployment(change, artifact_id, placement.deployment_id)
            if placement.desired is Desired.DEPLOYED or deployment.state is DeploymentState.FAILED:
                await self._rollouts.stop_on(change, artifact, [placement])
                await change.write()
            return await _find_deployment(change, artifact_id, placement.deployment_id)

    async def deployments(
        self, organization: str, artifact_kind: ArtifactKind, artifact_id: str, *, after: tuple[int, str], limit: int
    ) -> list[Deployment]:
        """At most `limit` deployments after this revision and gateway, highest revisions first.

        Raises:
            NotFound: there is no such artifact.
        """
        await self.check_exists(organization, artifact_kind, artifact_id)
        rows = await self._database.fetch(_QUERIES["deployments"], artifact_id, *after, limit)
        return [deployment_of(row) for row in rows]

    async def deployment(
        self, organization: str, artifact_kind: ArtifactKind, artifact_id: str, deployment_id: str
    ) -> Deployment:
        """One deployment of an artifact.

        Raises:
            NotFound: there is no such artifact, or deployment.
        """
        await self.check_exists(organization, artifact_kind, artifact_id)
        rows = await self._database.fetch(_QUERIES["deployment"], artifact_id, deployment_id)
        if not rows:
            raise NotFound("deployment", deployment_id)
        return deployment_of(rows[0])

    async def content(
        self, organization: str, artifact_kind: ArtifactKind, artifact_id: str, deployment_id: str
    ) -> str:
        """The document of one deployment, in YAML; where credentials belong it names secrets.

        Raises:
            NotFound: there is no such artifact, or deployment.
            SecretKeyMissing: this pod cannot decrypt it.
        """
        await self.check_exists(organization, artifact_kind, artifact_id)
        for row in await self._database.fetch(_QUERIES["content_of_deployment"], artifact_id, deployment_id):
            return self._store.content_of(row)
        raise NotFound("deployment", deployment_id)

    # --- parts --------------------------------------------------------------------------------------------------

    async def _rerun(self, change: UnitOfWork, artifact: StoredArtifact, edit: Edit, *, everywhere: bool) -> None:
        """Deploy the artifact to the gateways that should run it, and undeploy it from the others.

        Gateways that run it already get it again if it changed `everywhere`.
        """
        known = [each.gateway_id for each in await placements_of(change, artifact.id)]
        await change.lock_gateways(artifact.organization, [*known, *(edit.gateways or ())])
        placements = await placements_of(change, artifact.id)
        running = {each.gateway_id: each for each in placements if each.desired is Desired.DEPLOYED}
        wanted = set(running if edit.gateways is None else edit.gateways)
        leaving = running.keys() - wanted
        if unnamed := sorted(leaving - set(edit.undeploy)):
            raise Conflict(
                f"this would undeploy the {artifact.artifact_kind.noun} from {', '.join(unnamed)}; "
                'name the gateways in "undeploy" if that is meant',
                field="gateways",
            )
        await self._rollouts.stop_on(change, artifact, [running[gateway_id] for gateway_id in sorted(leaving)])
        await self._rollouts.run_on(change, artifact, wanted if everywhere else wanted - running.keys())


async def _running_on(reader: Database | Transaction, artifact_id: str) -> list[Running]:
    return [_running(row) for row in await reader.fetch(_QUERIES["current_deployments"], artifact_id)]


async def _clashes_of(reader: Database | Transaction, artifact_id: str) -> list[Clash]:
    rows = await reader.fetch(_QUERIES["clashes"], artifact_id, _MAX_CLASHES)
    return [Clash(row["gateway_id"], row["kind"], row["handle"], Route(row["host"], row["context"])) for row in rows]


async def _begin_from(
    store: ArtifactStore, change: UnitOfWork, artifact: StoredArtifact, revision: StoredArtifact
) -> None:
    """Make later changes start from a restored revision, if no gateway runs another one and its name is free."""
    rows = await change.transaction.fetch(_QUERIES["current_deployments"], artifact.id)
    running = {row["content_id"] for row in rows if row["desired"] == Desired.DEPLOYED}
    document = revision.document
    taken = (artifact.organization, artifact.artifact_kind.kind, document.name, document.version, artifact.id)
    if (
        revision.content_id != artifact.content_id
        and running == {revision.content_id}
        and await change.transaction.fetch_one(_QUERIES["artifact_name_taken"], *taken) is None
    ):
        await store.begin_from(change, artifact.id, document, revision.content_id)


def _told(row: Row) -> LastPublished:
    return LastPublished(
        artifact_id=row["artifact_id"],
        gateway_id=row["gateway_id"],
        kind=row["kind"],
        deployment_id=row["deployment_id"],
        event_id=row["event_id"],
        handle=row["handle"] or "",
        deployment=deployment_of(row) if row["id"] is not None else None,
    )


def _running(row: Row) -> Running:
    return Running(row["desired"], deployment_of(row))


def _check_version(artifact: StoredArtifact, version: int | None) -> None:
    if version not in (None, artifact.version):
        raise StaleWrite(artifact.artifact_kind.noun, f'"{artifact.version}"')


async def _find_deployment(change: UnitOfWork, artifact_id: str, deployment_id: str) -> Deployment:
    row = await change.transaction.fetch_one(_QUERIES["deployment"], artifact_id, deployment_id)
    if row is None:
        raise NotFound("deployment", deployment_id)
    return deployment_of(row)


async def _check_name(
    change: UnitOfWork, organization: str, artifact_kind: ArtifactKind, document: Artifact, artifact_id: str = ""
) -> None:
    """Gateways refuse two artifacts of one kind with the same name and version."""
    values = (organization, artifact_kind.kind, document.name, document.version, artifact_id)
    if await change.transaction.fetch_one(_QUERIES["artifact_name_taken"], *values):
        raise Conflict(
            f'a {artifact_kind.noun} "{document.name}" {document.version} exists already; '
            "choose another name or version",
            field="name",
        )


async def _free_handle(
    change: UnitOfWork, organization: str, artifact_kind: ArtifactKind, document: Artifact, wanted: str | None
) -> str:
    """The wanted handle, or a free one derived from the name."""
    derived = wanted or derive_handle(document.name)
    rows = await change.transaction.fetch(_QUERIES["handles"], organization, artifact_kind.kind, derived)
    taken = {row["handle"] for row in rows}
    if wanted in taken:
        raise Conflict(f'a {artifact_kind.noun} with the handle "{wanted}" exists already', field="handle")
    return first_free(derived, taken)


async def _placed(change: UnitOfWork, organization: str, document: Artifact, artifact_id: str = "") -> Artifact:
    """The document with its context; a context derived from the name is free among artifacts of every kind."""
    if (derived := document.derived_context) is None:
        return document
    rows = await change.transaction.fetch(_QUERIES["contexts"], organization, derived, artifact_id)
    return document.placed_at(first_free(derived, {row["context"] for row in rows}))


async def _remove(transaction: Transaction, organization: str, artifact_id: str) -> None:
    """Delete the artifact's row, and note that for who follows artifacts."""
    [noted] = await transaction.fetch(_QUERIES["note_deleted"], artifact_id)
    await transaction.execute(_QUERIES["forget_deleted"], organization, instant(noted["deleted_at"]) - _DELETED_FOR)
    await transaction.execute(_QUERIES["delete_artifact"], artifact_id)


def _is_same(one: Artifact, other: Artifact) -> bool:
    """Whether two documents say the same; to `==` alone, parameters of policies that are 1 and true do."""
    return one == other and is_same(one.model_dump(mode="json"), other.model_dump(mode="json"))
