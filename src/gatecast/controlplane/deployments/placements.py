"""Where artifacts run, and in which revision.

Everything here happens inside a `UnitOfWork` that holds the lock of the gateway concerned, so for one gateway the order
of the rows is the order of the events (scenario S35).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gatecast.controlplane.catalog.api_key import ApiKey
from gatecast.controlplane.catalog.artifact_kinds import BY_KIND, ArtifactKind, kind_of
from gatecast.controlplane.documents import Kind
from gatecast.controlplane.newer_releases import known, member
from gatecast.controlplane.transactions.timestamps import instant
from gatecast.controlplane.transactions.unit_of_work import UnitOfWork
from gatecast.storage.contract import Database, Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.rows import as_rows

_QUERIES = Queries("gatecast.controlplane.deployments", "placements.sql")

#: Most revisions of an artifact that are kept for each gateway.
MAX_REVISIONS = 20


class Desired(StrEnum):
    """What a gateway should do with an artifact."""

    DEPLOYED = "DEPLOYED"
    UNDEPLOYED = "UNDEPLOYED"
    DELETED = "DELETED"


class DeploymentState(StrEnum):
    """The state of one revision on one gateway."""

    #: Its event is published, and the gateway has not acknowledged it.
    PENDING = "PENDING"
    DEPLOYED = "DEPLOYED"
    #: The gateway could not apply it; the reason says why.
    FAILED = "FAILED"
    UNDEPLOYING = "UNDEPLOYING"
    UNDEPLOYED = "UNDEPLOYED"
    #: A newer revision replaced it.
    SUPERSEDED = "SUPERSEDED"
    #: A newer release has stored another state. Only shown, never stored.
    UNKNOWN = "UNKNOWN"


#: States that wait for an acknowledgement.
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
    #: The instant of its last event, in milliseconds since 1970.
    performed_at: int
    #: The id of its last event; empty before the first one.
    event_id: str
    #: The deployment that the gateway acknowledged; empty if it is not known.
    held: str
    #: Why its last event must be published again; empty: it waits for its acknowledgement, or has it.
    doubt: str = ""
    #: How often its event was published again because the acknowledgement did not count.
    tries: int = 0
    #: Changes of its keys up to this version are published; `UNKNOWN`: nothing is known of its keys there.
    keys_through: int = 0
    #: Since the gateway's process started: `UNKNOWN`: not listed as it is now; 0: listed; else fetched, with this
    #: `performed_at`.
    fetched: int = -1

    @property
    def artifact_kind(self) -> ArtifactKind:
        """The kind that names its events."""
        return BY_KIND[self.kind]


#: Nothing is known.
UNKNOWN = -1


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
    """The newest revision of an artifact on a gateway, as it was last published."""

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
        state=_state(row["state"]),
    )


def placement_of(row: Row) -> Placement:
    """The placement in a row.

    Raises:
        StoredByNewerRelease: its kind, or what is desired, is not known.
    """
    values = {name: row[name] for name in Placement.__slots__}
    return Placement(**values | {"kind": kind_of(row), "desired": desired_of(row)})


def desired_of(row: Row) -> Desired:
    """The desired state in a row.

    Raises:
        StoredByNewerRelease: the state is unknown.
    """
    return member(Desired, "the desired state", row["desired"])


def shown_state(text: str) -> DeploymentState:
    """The state, to be shown."""
    return DeploymentState(text) if text in list(DeploymentState) else DeploymentState.UNKNOWN


def _state(text: str) -> DeploymentState:
    return member(DeploymentState, "the deployment state", text)


def deployment_of(row: Row) -> Deployment:
    """The deployment in a row."""
    values = {name: row[name] for name in Deployment.__slots__}
    times = {name: instant(row[name]) for name in ("created_at", "updated_at")}
    return Deployment(**values | times | {"state": shown_state(row["state"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One artifact on one gateway, with the state of its last event."""

    placement: Placement
    #: None where it is being deleted.
    state: DeploymentState | None
    #: When the state was reached.
    since: datetime | None


def known_of(row: Row) -> Known:
    """The placement and the knowledge in a row."""
    state = row["state"]
    return Known(
        placement=placement_of(row),
        state=None if state is None else _state(state),
        since=None if state is None else instant(row["since"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployable:
    """An artifact as far as its gateways are concerned."""

    artifact_id: str
    organization: str
    kind: Kind
    #: The content that its gateways are to run.
    content_id: str
    #: The revoked ones included.
    keys: Sequence[ApiKey]


async def placements_of(change: UnitOfWork, artifact_id: str) -> list[Placement]:
    """Wherever the artifact is or has been, by gateway."""
    return [
        placement_of(row) for row in await change.transaction.fetch(_QUERIES["placements_of_artifact"], artifact_id)
    ]


async def find_placement(change: UnitOfWork, artifact_id: str, gateway_id: str) -> Placement | None:
    """The artifact on one gateway, if it ever was there."""
    row = await change.transaction.fetch_one(_QUERIES["placement"], artifact_id, gateway_id)
    return placement_of(row) if row is not None else None


async def known_on(change: UnitOfWork, gateway_id: str) -> list[Known]:
    """Everything that was published to a gateway, and what is known about it."""
    return known(await change.transaction.fetch(_QUERIES["known_of_gateway"], gateway_id), known_of)


async def find_known(transaction: Transaction, artifact_id: str, gateway_id: str) -> Known | None:
    """One artifact on one gateway, if it ever was there."""
    row = await transaction.fetch_one(_QUERIES["known_placement"], artifact_id, gateway_id)
    return known_of(row) if row is not None else None


async def states_on(database: Database, gateway_id: str) -> list[Row]:
    """The last published deployments on a gateway: rows of deployments with `kind`, `handle`, `desired`, `held`."""
    return await database.fetch(_QUERIES["gateway_states"], gateway_id)


def store(change: UnitOfWork, placement: Placement) -> None:
    """Store the known state of a placement, in the same transaction."""
    key = (placement.artifact_id, placement.gateway_id)
    change.store(_QUERIES["store_placements"], _row_of(placement), key=key)


async def store_known(transaction: Transaction, before: Known, known: Known, reason: str) -> None:
    """Store what has become known of an artifact on a gateway; `reason` says why a state is a failure."""
    await transaction.execute(_QUERIES["store_placements"], as_rows([_row_of(known.placement)]))
    if known.state is not before.state:
        await transaction.execute(_QUERIES["store_state"], known.placement.deployment_id, known.state, reason)


def _row_of(placement: Placement) -> dict[str, object]:
    """As it is stored."""
    return {name: getattr(placement, name) for name in Placement.__slots__}


def add_deployment(change: UnitOfWork, deployment: dict[str, object], *, supersedes: bool) -> None:
    """Store a new revision on a gateway; it supersedes earlier ones."""
    change.store(_QUERIES["insert_deployments"], deployment, key=deployment["id"])
    if supersedes:
        change.store(_QUERIES["supersede"], deployment, key=deployment["id"])


def begin_deployment(change: UnitOfWork, placement: Placement, state: DeploymentState) -> None:
    """Note that an event for a revision goes out: it waits for its acknowledgement."""
    deployment = {"id": placement.deployment_id, "state": state, "performed_at": placement.performed_at}
    change.store(_QUERIES["begin_deployments"], deployment, key=placement.deployment_id)
