"""Publishes to gateways what operators want of an artifact, and what they lack.

Everything here happens inside a `UnitOfWork` that holds the locks of the gateways concerned, so for one gateway the
order of the rows is the order of the events (scenario S35).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from uuid import uuid4

from gatecast.controlplane.catalog.api_key import ApiKey, keys_of_artifacts
from gatecast.controlplane.deployments.artifact_events import (
    artifact_event,
    key_created,
    key_revoked,
    key_updated,
    written,
)
from gatecast.controlplane.deployments.placements import (
    UNKNOWN,
    Deployable,
    DeploymentState,
    Desired,
    Placement,
    Revision,
    add_deployment,
    begin_deployment,
    store,
)
from gatecast.controlplane.deployments.reconcile import Doubt, KeyVerb, deployed_again, difference, key_steps
from gatecast.controlplane.transactions.clock import later_than
from gatecast.controlplane.transactions.unit_of_work import UnitOfWork
from gatecast.events import Action, Event

_KEY_EVENTS = {KeyVerb.CREATED: key_created, KeyVerb.UPDATED: key_updated, KeyVerb.REVOKED: key_revoked}


def deploy(change: UnitOfWork, artifact: Deployable, gateway_id: str, last: Revision | None) -> str:
    """Deploy an artifact to a gateway as a new revision; return the deployment's id."""
    before = last.placement if last else None
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
    deployment = {
        "id": placement.deployment_id,
        "artifact_id": artifact.artifact_id,
        "gateway_id": gateway_id,
        "revision": last.number + 1 if last else 1,
        "content_id": artifact.content_id,
        "performed_at": placement.performed_at,
    }
    add_deployment(change, deployment, supersedes=last is not None)
    publish(change, artifact.organization, [deployed_again(last, placement)], {artifact.artifact_id: artifact.keys})
    return placement.deployment_id


def undeploy(change: UnitOfWork, placement: Placement, organization: str) -> None:
    """Undeploy an artifact from a gateway, which keeps it and its keys as they were last published."""
    changed = replace(placement, desired=Desired.UNDEPLOYED, doubt=Doubt.CHANGED, tries=0)
    publish(change, organization, [changed], {})


def delete(change: UnitOfWork, placement: Placement, organization: str) -> None:
    """Delete an artifact from a gateway; the placement stays until the gateway has confirmed that."""
    changed = replace(placement, desired=Desired.DELETED, held="", doubt=Doubt.CHANGED, tries=0)
    publish(change, organization, [changed], {})


def run_again(change: UnitOfWork, last: Revision, organization: str, keys: Sequence[ApiKey]) -> None:
    """Republish the present revision to a gateway, because something that it is made from has changed."""
    changed = replace(last.placement, doubt=Doubt.CHANGED)
    publish(change, organization, [deployed_again(last, changed)], {changed.artifact_id: keys})


def publish(
    change: UnitOfWork,
    organization: str,
    placements: Iterable[Placement],
    keys: Mapping[str, Sequence[ApiKey]],
    *,
    after: int = 0,
) -> list[Placement]:
    """Publish what gateways lack of these placements, store the result, and return the incomplete ones.

    `keys` holds the keys of each artifact, revoked ones included. Instants are later than `after`.
    """
    published = []
    for step in difference(placements, keys):
        placement = _say(change, step.placement, organization, after) if step.says else step.placement
        change.events += [_KEY_EVENTS[each.verb](each.key, placement.gateway_id) for each in step.keys]
        store(change, placement)
        published.append(placement)
    return published


def tell_anew(change: UnitOfWork, placement: Placement, key: ApiKey) -> None:
    """Publish a key, whatever the gateway has of it; what is known of the placement stays as it is."""
    steps = key_steps(replace(placement, keys_through=UNKNOWN), [key])
    change.events += [_KEY_EVENTS[each.verb](each.key, placement.gateway_id) for each in steps]


async def keys_of_placements(change: UnitOfWork, placements: Iterable[Placement]) -> dict[str, list[ApiKey]]:
    """The keys of their artifacts, revoked ones included, by artifact."""
    return await keys_of_artifacts(change.transaction, {each.artifact_id for each in placements})


def _say(change: UnitOfWork, placement: Placement, organization: str, after: int) -> Placement:
    """Publish the desired state of one artifact, as an event that is newer than all before it."""
    if placement.desired is not Desired.DELETED and placement.doubt != Doubt.NEW:
        placement = replace(placement, performed_at=later_than(max(placement.performed_at, after)))
        state = DeploymentState.PENDING if placement.desired is Desired.DEPLOYED else DeploymentState.UNDEPLOYING
        begin_deployment(change, placement, state)
    event = _event(placement, organization)
    change.events.append(event)
    return replace(placement, event_id=str(event.event_id), doubt="", fetched=UNKNOWN)


def _event(placement: Placement, organization: str) -> Event:
    ids = {"artifact_id": placement.artifact_id, "gateway_id": placement.gateway_id}
    if placement.desired is Desired.DELETED:
        return artifact_event(placement.artifact_kind, "deleted", Action.DELETE, **ids)
    deployed = placement.desired is Desired.DEPLOYED
    action = Action.UPDATE if placement.event_id else Action.CREATE
    return artifact_event(
        placement.artifact_kind,
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
