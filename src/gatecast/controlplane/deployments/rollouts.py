"""Deploys artifacts to gateways, and republishes the artifacts that depend on them.

One change loads one snapshot of all gateways concerned, decides without touching the database, and writes at once: the
number of statements is the same for one gateway and for a thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gatecast.controlplane.catalog.api_key import ApiKey, keys_of_artifact
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER
from gatecast.controlplane.catalog.artifact_store import (
    ArtifactStore,
    StoredArtifact,
    provider_ids,
    reference_to,
)
from gatecast.controlplane.deployments.placements import (
    MAX_REVISIONS,
    Deployable,
    Desired,
    Placement,
)
from gatecast.controlplane.deployments.placing import deploy, run_again, undeploy
from gatecast.controlplane.deployments.preflight import PolicyChecks, check_gateways
from gatecast.controlplane.deployments.snapshot import GatewayState, Snapshot, load_snapshot
from gatecast.controlplane.documents import Artifact, LlmProvider, faults_in
from gatecast.controlplane.transactions.unit_of_work import UnitOfWork
from gatecast.errors import Conflict
from gatecast.storage.contract import Row
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.controlplane.deployments", "rollouts.sql")

#: Most gateways that one artifact runs on.
MAX_GATEWAYS = 1_000

#: Most proxies that an error names.
_NAMED = 5


class Rollouts:
    """Deploys revisions of artifacts to gateways, and undeploys them."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def run_on(self, change: UnitOfWork, artifact: StoredArtifact, gateways: Iterable[str]) -> list[str]:
        """Deploy the artifact, in the revision that is given, on these gateways; return the ids of the deployments.

        Raises:
            NotFound: there is no such gateway.
            Conflict: one of them lacks what the artifact needs, or there are too many.
        """
        chosen = sorted(set(gateways))
        if len(chosen) > MAX_GATEWAYS:
            raise Conflict(
                f"an artifact runs on at most {MAX_GATEWAYS:,} gateways, not {len(chosen):,}", field="gateways"
            )
        deployments: list[str] = []
        if chosen:
            await change.lock_gateways(artifact.organization, chosen)
            await self._store.complete_routes(change)
            snapshot = await load_snapshot(change.transaction, self._store, artifact, chosen)
            check_document(artifact.document)
            check_gateways(snapshot)
            deployments = deploy_everywhere(change, snapshot)
            rebuild_dependants(change, snapshot)
        await change.write()
        await _forget_unused(change, artifact.id)
        return deployments

    async def stop_on(self, change: UnitOfWork, artifact: StoredArtifact, placements: Sequence[Placement]) -> None:
        """Undeploy the artifact from the gateways of these placements.

        Raises:
            Conflict: proxies there may need it.
        """
        if not placements:
            return
        if artifact.artifact_kind is LLM_PROVIDER:
            needed = await change.transaction.fetch(_QUERIES["dependants_on_gateways"], artifact.id)
            for placement in placements:
                rows = [row for row in needed if _runs_on(row, placement.gateway_id)]
                if rows:
                    raise Conflict(
                        f"proxies on gateway {placement.gateway_id} may need it: {_named(rows)}; undeploy them first"
                    )
        for placement in placements:
            undeploy(change, placement, artifact.organization)


def check_document(document: Artifact) -> None:
    """A document of an earlier release, which had fewer rules, is not sent again if it would end a gateway.

    Raises:
        Conflict: it breaks a rule of this one.
    """
    for fault in faults_in(document):
        place = ".".join(map(str, fault.place))
        raise Conflict(
            f"{place} should {fault.rule}; gateways would store this revision and never serve it, so change it first",
            field=place,
        )


def deploy_everywhere(change: UnitOfWork, snapshot: Snapshot) -> list[str]:
    """Deploy the artifact to every gateway as a new revision; return the ids of the deployments."""
    artifact = snapshot.artifact
    deployable = Deployable(
        artifact_id=artifact.id,
        organization=artifact.organization,
        kind=artifact.artifact_kind.kind,
        content_id=artifact.content_id,
        keys=snapshot.keys.get(artifact.id, ()),
    )
    return [
        deploy(change, deployable, gateway.gateway_id, gateway.revisions.get(artifact.id))
        for gateway in snapshot.gateways
    ]


def rebuild_dependants(change: UnitOfWork, snapshot: Snapshot) -> None:
    """A gateway builds a proxy's route from its provider: if the provider has moved, republish the proxies.

    Raises:
        Conflict: a gateway lacks a policy that a proxy needs from now on.
    """
    policies = PolicyChecks()
    for gateway in snapshot.gateways:
        if moves_on(snapshot, gateway):
            for proxy_id in gateway.dependants:
                _rebuild(change, snapshot, gateway, proxy_id, policies)


def moves_on(snapshot: Snapshot, gateway: GatewayState) -> bool:
    """Whether proxies on a gateway reach a provider elsewhere from now on."""
    before = snapshot.told(gateway, snapshot.artifact.id)
    return before is not None and _place(before.document) != _place(snapshot.artifact.document)


def _rebuild(
    change: UnitOfWork, snapshot: Snapshot, gateway: GatewayState, proxy_id: str, policies: PolicyChecks
) -> None:
    proxy, provider = snapshot.told(gateway, proxy_id), snapshot.artifact
    if proxy is not None and provider.id in provider_ids(proxy.document):
        policies.check(proxy, {provider.id: reference_to(provider)}, gateway)
        run_again(change, gateway.revisions[proxy_id], proxy.organization, snapshot.keys.get(proxy_id, ()))


def _place(document: Artifact) -> tuple[str | None, str | None] | None:
    """Where proxies reach a provider."""
    return (document.context, document.vhost) if isinstance(document, LlmProvider) else None


async def check_unneeded(change: UnitOfWork, artifact: StoredArtifact) -> None:
    """Check that no proxy needs a provider that is removed (scenario S33)."""
    if rows := await change.transaction.fetch(_QUERIES["dependants"], artifact.id):
        raise Conflict(f"proxies need the provider: {_named(rows)}; delete them first")
    if rows := await change.transaction.fetch(_QUERIES["dependants_on_gateways"], artifact.id):
        raise Conflict(
            f"proxies may still need the provider on gateway {rows[0]['gateway_id']}, which has acknowledged no later "
            f"revision: {_named(rows)}; deploy them there again, or delete them"
        )


def _runs_on(row: Row, gateway_id: str) -> bool:
    return bool((row["gateway_id"], row["desired"]) == (gateway_id, Desired.DEPLOYED))


def _named(rows: Sequence[Row]) -> str:
    handles = sorted({row["handle"] for row in rows})
    more = f" and {len(handles) - _NAMED} more" if len(handles) > _NAMED else ""
    return ", ".join(handles[:_NAMED]) + more


async def _forget_unused(change: UnitOfWork, artifact_id: str) -> None:
    """Remove the oldest revisions of an artifact, and what only they referred to."""
    await change.transaction.execute(_QUERIES["forget_deployments"], artifact_id, MAX_REVISIONS)
    await change.transaction.execute(_QUERIES["forget_contents"], artifact_id)
    await change.transaction.execute(_QUERIES["forget_secrets"], artifact_id)
    await change.transaction.execute(_QUERIES["forget_openapi"], artifact_id)


async def keys_of(change: UnitOfWork, artifact_id: str) -> list[ApiKey]:
    """The artifact's active keys."""
    return [key for key in await keys_of_artifact(change.transaction, artifact_id) if key.revoked_at is None]
