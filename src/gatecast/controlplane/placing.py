"""Brings gateways what operators want of an artifact, and publishes what they lack.

Everything here happens inside a `Change` that holds the locks of the gateways concerned, so for one gateway the order
of the rows is the order of the events (scenario S35).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from uuid import uuid4

from gatecast.controlplane.artifact_events import artifact_event, key_created, key_revoked, key_updated, written
from gatecast.controlplane.change import Change
from gatecast.controlplane.clock import later_than, milliseconds
from gatecast.controlplane.keys import ApiKey
from gatecast.controlplane.placements import (
    PLACEMENTS,
    UNKNOWN,
    Deployable,
    DeploymentState,
    Desired,
    Known,
    Placement,
    find_placement,
    known_of,
)
from gatecast.controlplane.reconcile import Doubt, KeyVerb, difference, wanted
from gatecast.events import Action, Event
from gatecast.storage.contract import Transaction

_KEY_EVENTS = {KeyVerb.CREATED: key_created, KeyVerb.UPDATED: key_updated, KeyVerb.REVOKED: key_revoked}


async def deploy(change: Change, artifact: Deployable, gateway_id: str, content_id: str) -> str:
    """Let a gateway run this content as a new revision; return the deployment's id."""
    before = await find_placement(change, artifact.artifact_id, gateway_id)
    revision = await _next_revision(change, artifact.artifact_id, gateway_id)
    placement = Placement(
        artifact_id=artifact.artifact_id,
        gateway_id=gateway_id,
        kind=artifact.kind,
        desired=Desired.DEPLOYED,
        deployment_id=str(uuid4()),
        performed_at=later_than(before.performed_at if before else 0),
        event_id=before.event_id if before else "",
        held=before.held if before else "",
        doubt=Doubt.NEW,
    )
    ids = (artifact.artifact_id, gateway_id)
    await change.transaction.execute(PLACEMENTS["supersede"], *ids)
    await change.transaction.execute(
        PLACEMENTS["insert_deployment"], placement.deployment_id, *ids, revision, content_id, placement.performed_at
    )
    keys = {artifact.artifact_id: artifact.keys}
    await publish(change, artifact.organization, [wanted(before, placement)], keys)
    return placement.deployment_id


async def undeploy(change: Change, placement: Placement, organization: str) -> None:
    """Let a gateway stop running an artifact; it keeps it."""
    changed = replace(placement, desired=Desired.UNDEPLOYED, doubt=Doubt.CHANGED)
    await publish(change, organization, [wanted(placement, changed)])


async def delete(change: Change, placement: Placement, organization: str) -> None:
    """Let a gateway forget an artifact; the placement stays until the gateway has confirmed that."""
    changed = replace(placement, desired=Desired.DELETED, held="", doubt=Doubt.CHANGED)
    await publish(change, organization, [wanted(placement, changed)], {})


async def run_again(change: Change, placement: Placement, organization: str) -> None:
    """Let a gateway apply once more what it has: what it is made from has changed."""
    await publish(change, organization, [replace(placement, doubt=Doubt.CHANGED)])


async def known_on(change: Change, gateway_id: str) -> list[Known]:
    """Everything that a gateway was told of, and what is known of it."""
    return [known_of(row) for row in await change.transaction.fetch(PLACEMENTS["known_of_gateway"], gateway_id)]


async def publish(
    change: Change,
    organization: str,
    placements: Iterable[Placement],
    keys: Mapping[str, Sequence[ApiKey]] | None = None,
    *,
    after: int = 0,
) -> list[Placement]:
    """Publish what gateways lack of these placements, store what is known then, and return those that lacked something.

    `keys` are those of each artifact, looked up where they are not given. Instants are later than `after`.
    """
    placements = list(placements)
    if keys is None:
        keys = await _keys(change, placements)
    published = []
    for step in difference(placements, keys, milliseconds()):
        placement = await _say(change, step.placement, organization, after) if step.says else step.placement
        change.events += [_KEY_EVENTS[each.verb](each.key, placement.gateway_id) for each in step.keys]
        await store(change.transaction, placement)
        published.append(placement)
    return published


async def store(transaction: Transaction, placement: Placement) -> None:
    """Store what is known of a placement."""
    names = [name for name in Placement.__slots__ if name not in ("artifact_id", "gateway_id")]
    values = [getattr(placement, name) for name in names]
    await transaction.execute(PLACEMENTS["store_placement"], placement.artifact_id, placement.gateway_id, *values)


async def _keys(change: Change, placements: Sequence[Placement]) -> dict[str, list[ApiKey]]:
    """The keys of these artifacts, revoked ones included, by artifact."""
    keys: dict[str, list[ApiKey]] = {each.artifact_id: [] for each in placements}
    gateways = {each.gateway_id for each in placements}
    if len(keys) > 1 and len(gateways) == 1:
        rows = await change.transaction.fetch(PLACEMENTS["keys_of_gateway"], gateways.pop())
    else:
        rows = [row for each in keys for row in await change.transaction.fetch(PLACEMENTS["keys"], each)]
    for row in rows:
        if row["artifact_id"] in keys:
            keys[row["artifact_id"]].append(ApiKey.of(row))
    return keys


async def _next_revision(change: Change, artifact_id: str, gateway_id: str) -> int:
    row = await change.transaction.fetch_one(PLACEMENTS["last_revision"], artifact_id, gateway_id)
    return 1 + (row["revision"] or 0 if row else 0)


async def _say(change: Change, placement: Placement, organization: str, after: int) -> Placement:
    """Publish the desired state of one artifact, as a new event that is newer than everything before."""
    if placement.desired is not Desired.DELETED and placement.doubt != Doubt.NEW:
        placement = replace(placement, performed_at=later_than(max(placement.performed_at, after)))
        deployed = placement.desired is Desired.DEPLOYED
        state = DeploymentState.PENDING if deployed else DeploymentState.UNDEPLOYING
        await change.transaction.execute(
            PLACEMENTS["begin_deployment"], placement.deployment_id, state, placement.performed_at
        )
    event = _event(placement, organization)
    change.events.append(event)
    return replace(placement, event_id=str(event.event_id), doubt="", fetched=UNKNOWN)


def _event(placement: Placement, organization: str) -> Event:
    ids = {"artifact_id": placement.artifact_id, "gateway_id": placement.gateway_id}
    if placement.desired is Desired.DELETED:
        return artifact_event(placement.family, "deleted", Action.DELETE, **ids)
    deployed = placement.desired is Desired.DEPLOYED
    action = Action.UPDATE if placement.event_id else Action.CREATE
    return artifact_event(
        placement.family,
        "deployed" if deployed else "undeployed",
        action if deployed else Action.DELETE,
        **ids,
        deploymentId=placement.deployment_id if deployed else _to_undeploy(placement),
        performedAt=written(placement.performed_at),
        gatewayId=placement.gateway_id,
        organizationId=organization,
        **({"status": "DEPLOYED"} if deployed else {}),
    )


def _to_undeploy(placement: Placement) -> str:
    """The deployment to name: a gateway refuses to undeploy another one than it has, and without a name takes any.

    So it is named only where the gateway has said that it has it: a revision that it has not acknowledged may have
    failed there, and then an older one still runs.
    """
    return placement.deployment_id if placement.held == placement.deployment_id else ""
