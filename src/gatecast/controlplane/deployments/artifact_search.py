"""Lists of artifacts and of their deployments: found, counted and sorted by the database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from gatecast.controlplane.catalog.artifact_kinds import BY_KIND, ArtifactKind, kind_of
from gatecast.controlplane.deployments.placements import (
    WAITING,
    Deployment,
    DeploymentState,
    Desired,
    deployment_of,
    shown_state,
)
from gatecast.controlplane.documents import Kind
from gatecast.controlplane.newer_releases import known
from gatecast.controlplane.transactions.timestamps import instant
from gatecast.storage.contract import Database, Row
from gatecast.storage.queries import Queries
from gatecast.storage.rows import as_keys

_QUERIES = Queries("gatecast.controlplane.deployments", "artifact_search.sql")

#: The states that a gateway can be in of an artifact.
CURRENT_STATES = tuple(
    state for state in DeploymentState if state not in (DeploymentState.SUPERSEDED, DeploymentState.UNKNOWN)
)

#: States that are wrong, or not final yet.
IN_FLIGHT = (*sorted(WAITING), DeploymentState.FAILED)


class ArtifactSort(StrEnum):
    """The order of a list of artifacts."""

    #: By kind, then by handle.
    HANDLE = "handle"
    #: The latest change comes first.
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFilter:
    """Which artifacts to list; an empty field matches all."""

    kind: Kind | None = None
    #: A part of the name or handle, in any case.
    text: str = ""
    #: Artifacts with a gateway in one of these states.
    states: Collection[DeploymentState] = ()


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many gateways are in one state of an artifact."""

    number: int
    #: When the change was first published, in milliseconds since 1970.
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedArtifact:
    """An artifact in a list: its document is not read."""

    id: str
    artifact_kind: ArtifactKind
    handle: str
    name: str
    version: str
    #: Where it is served; empty: nowhere, or not known yet.
    context: str
    created_at: datetime
    updated_at: datetime
    states: Mapping[DeploymentState, StateCount]

    @property
    def gateways(self) -> int:
        """The number of gateways that it was published to."""
        return sum(each.number for each in self.states.values())

    @property
    def waiting_since(self) -> int | None:
        """Since when the first gateway owes an answer, in milliseconds since 1970; None: none does."""
        return min((each.since for state, each in self.states.items() if state in WAITING), default=None)


@dataclass(frozen=True, slots=True)
class FoundArtifacts:
    """A page of artifacts."""

    items: Sequence[ListedArtifact]
    #: How many match in all.
    total: int
    #: The cursor of the next page; empty: there is none.
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentFilter:
    """Which deployments to list; an empty field matches all."""

    kind: Kind | None = None
    artifact_id: str = ""
    states: Collection[DeploymentState] = ()
    #: A part of the gateway's name, in any case.
    gateway: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDeployment:
    """What was last published to a gateway for an artifact."""

    deployment: Deployment
    #: As it is stored: a newer release may know more kinds.
    kind: str
    handle: str
    artifact_name: str
    gateway_name: str
    #: Whether the gateway should run it.
    runs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedArtifact:
    """An artifact that was deleted."""

    id: str
    #: As it was stored: a newer release may know more kinds.
    kind: str
    handle: str
    name: str
    deleted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentDeployments:
    """The recent changes of deployments in an organization."""

    #: The newest first.
    items: Sequence[ListedDeployment]
    #: The artifacts that were deleted, the newest first.
    deleted: Sequence[DeletedArtifact]
    #: Whether there was more than that.
    more: bool
    #: How many artifacts there are, and how often they were changed: with another pair some were.
    artifacts: tuple[int, int]


class ArtifactSearch:
    """Finds artifacts and deployments of one organization."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def artifacts(
        self,
        organization: str,
        wanted: ArtifactFilter,
        *,
        sort: ArtifactSort = ArtifactSort.HANDLE,
        after: str = "",
        limit: int,
    ) -> FoundArtifacts:
        """At most `limit` artifacts that match; `after` is where an earlier page said that this one begins."""
        kind, handle, start = _cursor(after, sort)
        rows = await self._database.fetch(
            _QUERIES["artifacts"],
            organization,
            wanted.kind or "",
            *_patterns(wanted.text),
            *_padded(wanted.states),
            kind,
            handle,
            sort,
            limit + 1,
            start,
        )
        states = await self.states(row["id"] for row in rows[:limit])
        items = known(rows[:limit], lambda row: _artifact(row, states.get(row["id"], {})))
        more = ""
        if len(rows) > limit:
            last = rows[limit - 1]
            more = f"{last['kind']}:{last['handle']}" if sort is ArtifactSort.HANDLE else str(start + limit)
        return FoundArtifacts(items, rows[0]["total"] if rows else 0, more)

    async def states(self, artifact_ids: Iterable[str]) -> dict[str, dict[DeploymentState, StateCount]]:
        """How many gateways are in which state of each of these artifacts."""
        found: dict[str, dict[DeploymentState, StateCount]] = {}
        for row in await self._database.fetch(_QUERIES["states"], as_keys(artifact_ids)):
            count = StateCount(row["number"], row["since"])
            found.setdefault(row["artifact_id"], {})[shown_state(row["state"])] = count
        return found

    async def deployments(
        self, organization: str, wanted: DeploymentFilter, *, after: tuple[str, str, str] = ("", "", ""), limit: int
    ) -> list[ListedDeployment]:
        """At most `limit` deployments after this kind, handle and gateway name, in that order."""
        rows = await self._database.fetch(
            _QUERIES["deployments"],
            organization,
            wanted.kind or "",
            wanted.artifact_id,
            *_padded(wanted.states or CURRENT_STATES),
            *_patterns(wanted.gateway),
            *after,
            limit,
        )
        return [_deployment(row) for row in rows]

    async def recent_deployments(self, organization: str, *, window: timedelta, limit: int) -> RecentDeployments:
        """At most `limit` deployments that changed within `window`, by the clock of the database."""
        [seen] = await self._database.fetch(_QUERIES["artifacts_seen"], organization)
        since = instant(seen["now"]) - window
        rows = await self._database.fetch(_QUERIES["deployments_since"], organization, since, limit + 1)
        deleted = await self._database.fetch(_QUERIES["deleted_since"], organization, since, limit + 1)
        return RecentDeployments(
            items=[_deployment(row) for row in rows[:limit]],
            deleted=[_deleted(row) for row in deleted[:limit]],
            more=len(rows) > limit or len(deleted) > limit,
            artifacts=(seen["number"], seen["versions"]),
        )


def _padded(states: Collection[DeploymentState]) -> list[str]:
    """As many states as the statement has places; the first one again fills up."""
    given = [str(state) for state in states] or [""]
    return (given + given[:1] * len(CURRENT_STATES))[: len(CURRENT_STATES)]


def _patterns(text: str) -> tuple[str, str]:
    """Patterns that contain the text: as written, and in lower case; both empty if every text matches."""
    if not text:
        return "", ""
    escaped = text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"%{escaped}%", f"%{escaped.lower()}%"


def _cursor(after: str, sort: ArtifactSort) -> tuple[str, str, int]:
    """The kind and handle that a page begins after, and how many come before it; an unknown cursor starts over."""
    if sort is ArtifactSort.CHANGED:
        return "", "", int(after) if after.isascii() and after.isdigit() and len(after) < 8 else 0  # noqa: PLR2004 - more than there are
    kind, _, handle = after.partition(":")
    return kind, handle, 0


def _artifact(row: Row, states: Mapping[DeploymentState, StateCount]) -> ListedArtifact:
    return ListedArtifact(
        id=row["id"],
        artifact_kind=BY_KIND[kind_of(row)],
        handle=row["handle"],
        name=row["name"],
        version=row["artifact_version"],
        context=row["context"] or "",
        created_at=instant(row["created_at"]),
        updated_at=instant(row["updated_at"]),
        states=states,
    )


def _deleted(row: Row) -> DeletedArtifact:
    return DeletedArtifact(
        id=row["artifact_id"],
        kind=row["kind"],
        handle=row["handle"],
        name=row["name"],
        deleted_at=instant(row["deleted_at"]),
    )


def _deployment(row: Row) -> ListedDeployment:
    return ListedDeployment(
        deployment=deployment_of(row),
        kind=row["kind"],
        handle=row["handle"],
        artifact_name=row["name"],
        gateway_name=row["gateway_name"],
        runs=row["desired"] == Desired.DEPLOYED,
    )
