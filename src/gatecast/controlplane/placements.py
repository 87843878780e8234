"""Where artifacts run, and in which revision.

What happens here happens inside a `Change` that holds the lock of the gateway concerned, so for one gateway the order
of the rows is the order of the events (scenario S35). Nothing here reads: rows and events are left with the change,
which writes those of all gateways at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import uuid4

from gatecast.controlplane.artifact_events import artifact_event, key_created, key_revoked, key_updated, written
from gatecast.controlplane.change import Change
from gatecast.controlplane.clock import later_than, milliseconds
from gatecast.controlplane.documents import Kind
from gatecast.controlplane.families import BY_KIND, Family
from gatecast.controlplane.keys import ApiKey
from gatecast.controlplane.rows import instant
from gatecast.events import Action, Event
from gatecast.storage.contract import Row
from gatecast.storage.queries import Queries

PLACEMENTS = Queries("gatecast.controlplane", "placements.sql")

#: So many revisions of an artifact are kept for each gateway.
MAX_REVISIONS = 20


class Desired(StrEnum):
    """What a gateway should do with an artifact."""

    DEPLOYED = "DEPLOYED"
    UNDEPLOYED = "UNDEPLOYED"
    DELETED = "DELETED"


class DeploymentState(StrEnum):
    """What is known of one revision on one gateway."""

    #: Its event is published, and the gateway has not said that it applied it.
    PENDING = "PENDING"
    DEPLOYED = "DEPLOYED"
    #: The gateway could not do it; the reason says why.
    FAILED = "FAILED"
    UNDEPLOYING = "UNDEPLOYING"
    UNDEPLOYED = "UNDEPLOYED"
    #: A newer revision took its place.
    SUPERSEDED = "SUPERSEDED"


#: States in which an acknowledgement is awaited.
WAITING = frozenset({DeploymentState.PENDING, DeploymentState.UNDEPLOYING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One artifact on one gateway."""

    artifact_id: str
    gateway_id: str
    kind: Kind
    desired: Desired
    #: The newest revision.
    deployment_id: str
    #: Of its last event, in milliseconds since 1970.
    performed_at: int
    #: Of its last event.
    event_id: str
    #: The deployment that the gateway said it has; empty when that is not known.
    held: str

    @property
    def family(self) -> Family:
        """What its events are called."""
        return BY_KIND[self.kind]

    @property
    def key_event(self) -> Callable[[ApiKey, str], Event]:
        """What brings a key that may be there already.

        A gateway with ten keys takes no created one, not even in place of its own. An updated one it takes as a new
        one, too, but under an id of its own, for which the list that it reads would remove it; MCP proxies have none.
        """
        return key_updated if self.kind is Kind.MCP else key_created

    @property
    def has_keys(self) -> bool:
        """True when the gateway has the artifact's keys, or asks for them when it connects.

        Those of MCP proxies it cannot ask for, so they are sent too often rather than too rarely.
        """
        return bool(self.held) and self.kind is not Kind.MCP


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One revision of an artifact on one gateway."""

    id: str
    artifact_id: str
    gateway_id: str
    revision: int
    content_id: str
    state: DeploymentState
    #: Why it failed; empty otherwise.
    reason: str
    #: In milliseconds since 1970.
    performed_at: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The newest revision of an artifact on a gateway, as it was told last."""

    placement: Placement
    #: Rises with every deployment.
    number: int
    content_id: str
    state: DeploymentState

    @property
    def runs(self) -> bool:
        """Whether the gateway should run it."""
        return self.placement.desired is Desired.DEPLOYED


def revision_of(row: Row) -> Revision:
    """The newest revision in a row."""
    return Revision(
        placement=placement_of(row),
        number=row["revision"],
        content_id=row["content_id"],
        state=DeploymentState(row["state"]),
    )


def placement_of(row: Row) -> Placement:
    """The placement in a row."""
    values = {name: row[name] for name in Placement.__slots__}
    return Placement(**values | {"kind": Kind(row["kind"]), "desired": Desired(row["desired"])})


def deployment_of(row: Row) -> Deployment:
    """The deployment in a row."""
    values = {name: row[name] for name in Deployment.__slots__}
    times = {name: instant(row[name]) for name in ("created_at", "updated_at")}
    return Deployment(**values | times | {"state": DeploymentState(row["state"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployable:
    """An artifact as far as its gateways are concerned."""

    artifact_id: str
    organization: str
    kind: Kind
    #: What its gateways are to run.
    content_id: str
    #: The active ones.
    keys: Sequence[ApiKey]


async def placements_of(change: Change, artifact_id: str) -> list[Placement]:
    """Wherever the artifact is or has been, by gateway."""
    return [
        placement_of(row) for row in await change.transaction.fetch(PLACEMENTS["placements_of_artifact"], artifact_id)
    ]


async def find_placement(change: Change, artifact_id: str, gateway_id: str) -> Placement | None:
    """The artifact on one gateway, if it ever was there."""
    row = await change.transaction.fetch_one(PLACEMENTS["placement"], artifact_id, gateway_id)
    return placement_of(row) if row is not None else None


def deploy(change: Change, artifact: Deployable, gateway_id: str, last: Revision | None) -> str:
    """Let a gateway run an artifact as a new revision; return the deployment's id.

    The artifact's keys follow unless the gateway is known to have them: it drops the keys of artifacts that it does not
    have.
    """
    before = last.placement if last else None
    placement = Placement(
        artifact_id=artifact.artifact_id,
        gateway_id=gateway_id,
        kind=artifact.kind,
        desired=Desired.DEPLOYED,
        deployment_id=str(uuid4()),
        performed_at=later_than(before.performed_at if before else 0),
        event_id="",
        held=before.held if before else "",
    )
    ids = {"artifact_id": artifact.artifact_id, "gateway_id": gateway_id}
    if last:
        change.store(PLACEMENTS["supersede"], ids, key=(artifact.artifact_id, gateway_id))
    deployment = {
        "id": placement.deployment_id,
        **ids,
        "revision": last.number + 1 if last else 1,
        "content_id": artifact.content_id,
        "performed_at": placement.performed_at,
    }
    change.store(PLACEMENTS["insert_deployments"], deployment, key=placement.deployment_id)
    _tell(change, placement, artifact.organization, action=Action.UPDATE if before else Action.CREATE)
    if not placement.has_keys:
        send_keys(change, artifact.keys, gateway_id, placement.key_event)
    return placement.deployment_id


def undeploy(change: Change, placement: Placement, organization: str) -> None:
    """Let a gateway stop running an artifact; it keeps it."""
    _tell_again(change, replace(placement, desired=Desired.UNDEPLOYED), organization)


async def tell_again(change: Change, placement: Placement, organization: str, keys: Sequence[ApiKey]) -> None:
    """As `repeat`."""
    repeat(change, placement, organization, keys)


def repeat(change: Change, placement: Placement, organization: str, keys: Sequence[ApiKey]) -> None:
    """Publish the desired state of one artifact once more, as new events: its gateway may have missed it.

    Its keys, the revoked ones included, go along unless the gateway is known to have them.
    """
    _tell_again(change, placement, organization)
    if placement.desired is not Desired.DELETED and not placement.has_keys:
        active = [key for key in keys if key.revoked_at is None]
        names = {key.name for key in active}
        ended = {key.name: key for key in keys if key.name not in names}
        change.events += [key_revoked(key, placement.gateway_id) for key in ended.values()]
        send_keys(change, active, placement.gateway_id, placement.key_event)


def delete(change: Change, placement: Placement) -> None:
    """Let a gateway forget an artifact; the placement stays until the gateway has confirmed that."""
    placement = replace(placement, desired=Desired.DELETED, held="")
    event = artifact_event(
        placement.family,
        "deleted",
        Action.DELETE,
        artifact_id=placement.artifact_id,
        gateway_id=placement.gateway_id,
    )
    _publish(change, placement, event)


def send_keys(change: Change, keys: Sequence[ApiKey], gateway_id: str, event: Callable[[ApiKey, str], Event]) -> None:
    """Publish these active keys to a gateway. Expired ones it would drop, and keep older values that it may have."""
    now = milliseconds()
    change.events += [key_revoked(key, gateway_id) if key.expired(now) else event(key, gateway_id) for key in keys]


def _tell_again(change: Change, placement: Placement, organization: str) -> None:
    if placement.desired is Desired.DELETED:
        delete(change, placement)
        return
    placement = replace(placement, performed_at=later_than(placement.performed_at))
    deployed = placement.desired is Desired.DEPLOYED
    state = DeploymentState.PENDING if deployed else DeploymentState.UNDEPLOYING
    deployment = {"id": placement.deployment_id, "state": state, "performed_at": placement.performed_at}
    change.store(PLACEMENTS["begin_deployments"], deployment, key=placement.deployment_id)
    _tell(change, placement, organization, action=Action.UPDATE if deployed else Action.DELETE)


def _tell(change: Change, placement: Placement, organization: str, *, action: Action) -> None:
    deployed = placement.desired is Desired.DEPLOYED
    event = artifact_event(
        placement.family,
        "deployed" if deployed else "undeployed",
        action,
        artifact_id=placement.artifact_id,
        deploymentId=placement.deployment_id if deployed else _to_undeploy(placement),
        performedAt=written(placement.performed_at),
        gatewayId=placement.gateway_id,
        organizationId=organization,
        **({"status": "DEPLOYED"} if deployed else {}),
        gateway_id=placement.gateway_id,
    )
    _publish(change, placement, event)


def _to_undeploy(placement: Placement) -> str:
    """The deployment to name: a gateway refuses to undeploy another one than it has, and without a name takes any.

    So it is named only where the gateway has said that it has it: a revision that it has not acknowledged may have
    failed there, and then an older one still runs.
    """
    return placement.deployment_id if placement.held == placement.deployment_id else ""


def _publish(change: Change, placement: Placement, event: Event) -> None:
    change.events.append(event)
    placement = replace(placement, event_id=str(event.event_id))
    row = {name: getattr(placement, name) for name in Placement.__slots__}
    change.store(PLACEMENTS["store_placements"], row, key=(placement.artifact_id, placement.gateway_id))
