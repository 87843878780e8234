"""What deploying an artifact to gateways takes, and what it means for those that depend on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gatecast.controlplane.artifact_store import ARTIFACTS, ArtifactStore, StoredArtifact, provider_ids
from gatecast.controlplane.change import Change
from gatecast.controlplane.documents import Artifact, LlmProvider
from gatecast.controlplane.families import LLM_PROVIDER
from gatecast.controlplane.keys import ApiKey
from gatecast.controlplane.offers import check_offer
from gatecast.controlplane.placements import (
    MAX_REVISIONS,
    PLACEMENTS,
    Deployable,
    Desired,
    Placement,
    deployment_of,
    find_placement,
)
from gatecast.controlplane.placing import deploy, run_again, undeploy
from gatecast.errors import Conflict
from gatecast.storage.contract import Row

#: Most gateways that one artifact runs on.
MAX_GATEWAYS = 1_000

#: So many proxies are named in an error.
_NAMED = 5


class Rollouts:
    """Brings revisions of artifacts to gateways, and takes them away."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def run_on(self, change: Change, artifact: StoredArtifact, gateways: Iterable[str]) -> list[str]:
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
        await change.lock_gateways(artifact.organization, chosen)
        deployable = await deployable_of(change, artifact)
        for gateway_id in chosen:
            await self._check_gateway(change, artifact, gateway_id)
        moving = [each for each in chosen if await self._moves_on(change, artifact, each)]
        deployments = [await deploy(change, deployable, each, artifact.content_id) for each in chosen]
        for gateway_id in moving:
            await self._rebuild_dependants(change, artifact, gateway_id)
        await _forget_unused(change, artifact.id)
        return deployments

    async def stop_on(self, change: Change, artifact: StoredArtifact, placement: Placement) -> None:
        """Undeploy the artifact from a gateway.

        Raises:
            Conflict: proxies there may need it.
        """
        if rows := await _running_dependants(change, artifact, placement.gateway_id):
            raise Conflict(
                f"proxies on gateway {placement.gateway_id} may need it: {_named(rows)}; undeploy them first"
            )
        await undeploy(change, placement, artifact.organization)

    async def _check_gateway(self, change: Change, artifact: StoredArtifact, gateway_id: str) -> None:
        """See to it that the gateway has what the artifact needs, so that nothing is accepted that it would reject."""
        providers = {
            provider_id: await self._provider_on(change, artifact.organization, provider_id, gateway_id)
            for provider_id in provider_ids(artifact.document)
        }
        before = await self._store.on_gateway(change.transaction, artifact.id, gateway_id)
        await check_offer(change.transaction, artifact, providers, gateway_id, before=before)

    async def _provider_on(
        self, change: Change, organization: str, provider_id: str, gateway_id: str
    ) -> StoredArtifact:
        """A provider as a gateway runs it."""
        found = await self._store.on_gateway(change.transaction, provider_id, gateway_id)
        placement = await find_placement(change, provider_id, gateway_id)
        if found is None or placement is None or placement.desired is not Desired.DEPLOYED:
            provider = await self._store.find(change.transaction, organization, LLM_PROVIDER, provider_id)
            raise Conflict(
                f'gateway {gateway_id} does not run the LLM provider "{provider.handle}"; '
                "deploy the provider there first",
                field="gateways",
            )
        return found

    async def _moves_on(self, change: Change, artifact: StoredArtifact, gateway_id: str) -> bool:
        """Whether proxies on a gateway reach a provider elsewhere from now on."""
        if artifact.family is not LLM_PROVIDER:
            return False
        before = await self._store.on_gateway(change.transaction, artifact.id, gateway_id)
        return before is not None and _place(before.document) != _place(artifact.document)

    async def _rebuild_dependants(self, change: Change, provider: StoredArtifact, gateway_id: str) -> None:
        """A gateway builds a proxy's route from its provider: where that has moved, proxies are told again."""
        for row in await _running_dependants(change, provider, gateway_id):
            proxy = await self._store.on_gateway(change.transaction, row["artifact_id"], gateway_id)
            placement = await find_placement(change, row["artifact_id"], gateway_id)
            if proxy is not None and placement is not None and provider.id in provider_ids(proxy.document):
                await self._check_gateway(change, proxy, gateway_id)
                await run_again(change, placement, proxy.organization)


async def check_unneeded(change: Change, artifact: StoredArtifact) -> None:
    """No proxy may need a provider that goes (scenario S33)."""
    if rows := await change.transaction.fetch(ARTIFACTS["dependants"], artifact.id):
        raise Conflict(f"proxies need the provider: {_named(rows)}; delete them first")
    if rows := await change.transaction.fetch(ARTIFACTS["dependants_on_gateways"], artifact.id):
        raise Conflict(
            f"proxies may still need the provider on gateway {rows[0]['gateway_id']}, which has acknowledged no later "
            f"revision: {_named(rows)}; deploy them there again, or delete them"
        )


async def _running_dependants(change: Change, provider: StoredArtifact, gateway_id: str) -> list[Row]:
    """The proxies that run on a gateway and may need a provider there."""
    rows = await change.transaction.fetch(ARTIFACTS["dependants_on_gateways"], provider.id)
    return [row for row in rows if (row["gateway_id"], row["desired"]) == (gateway_id, Desired.DEPLOYED)]


def _named(rows: Sequence[Row]) -> str:
    handles = sorted({row["handle"] for row in rows})
    more = f" and {len(handles) - _NAMED} more" if len(handles) > _NAMED else ""
    return ", ".join(handles[:_NAMED]) + more


async def _forget_unused(change: Change, artifact_id: str) -> None:
    """Remove the oldest revisions of an artifact, and what only they referred to."""
    for row in await change.transaction.fetch(PLACEMENTS["current_deployments"], artifact_id):
        current = deployment_of(row)
        oldest_kept = current.revision - MAX_REVISIONS
        if oldest_kept > 0:
            await change.transaction.execute(
                ARTIFACTS["forget_deployments"], artifact_id, current.gateway_id, oldest_kept
            )
    await change.transaction.execute(ARTIFACTS["forget_contents"], artifact_id)
    await change.transaction.execute(ARTIFACTS["forget_secrets"], artifact_id)


async def keys_of(change: Change, artifact_id: str) -> list[ApiKey]:
    """The artifact's active keys."""
    return [key for key in await all_keys_of(change, artifact_id) if key.revoked_at is None]


async def all_keys_of(change: Change, artifact_id: str) -> list[ApiKey]:
    """The artifact's keys, the last revoked ones included."""
    return [ApiKey.of(row) for row in await change.transaction.fetch(PLACEMENTS["keys"], artifact_id)]


async def deployable_of(change: Change, artifact: StoredArtifact) -> Deployable:
    """The artifact as far as its gateways are concerned."""
    return Deployable(
        artifact_id=artifact.id,
        organization=artifact.organization,
        kind=artifact.family.kind,
        keys=await all_keys_of(change, artifact.id),
    )


def _place(document: Artifact) -> tuple[str | None, str | None] | None:
    """Where proxies reach a provider."""
    return (document.context, document.vhost) if isinstance(document, LlmProvider) else None
