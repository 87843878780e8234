"""Start-up sync of deployments: list, compare, delete, fetch, change states (gateway-protocol.md 3.4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from gatecast.testing.unmodified_gateway.artifact_kinds import DELETION_ORDER, FETCH_ORDER
from gatecast.testing.unmodified_gateway.artifacts import CONTROL_PLANE, DEPLOYED, UNDEPLOYED, Artifact
from gatecast.testing.unmodified_gateway.messages import Fields
from gatecast.testing.unmodified_gateway.packages import parse_document
from gatecast.testing.unmodified_gateway.rest_calls import CallFailed, RestCalls
from gatecast.testing.unmodified_gateway.world import World
from gatecast.testing.unmodified_gateway.yaml_values import Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One entry of `GET /deployments`."""

    artifact_id: str
    deployment_id: str
    kind: str
    #: In lower case.
    state: str
    deployed_at: datetime | None
    event_id: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What must be done so that the gateway has what the control plane lists."""

    to_fetch: Sequence[Listed]
    to_change: Sequence[Listed]
    #: Ids that are here and not listed.
    orphans: Sequence[str]


class DeploymentSync:
    """Runs once per process, at its first connection."""

    def __init__(self, calls: RestCalls, world: World) -> None:
        self._calls = calls
        self._world = world
        self._database = world.database
        self._records = world.records

    async def run(self, *, batch_size: int) -> None:
        """Bring the database to what is listed; raises CallFailed or Unparsable when there is no usable list."""
        listing = await self._calls.get("/deployments")
        listed = [_listed(item) for item in Fields(listing).items("deployments")]
        stored = self._database.artifacts.stored
        # What was made on the gateway itself is nobody's to delete.
        plan = make_plan(listed, {id_: each for id_, each in stored.items() if each.origin == CONTROL_PLANE})
        await self._delete_orphans(plan.orphans)
        for batch in _batches(plan.to_fetch, batch_size):
            await self._fetch(batch)
        for entry in plan.to_change:
            await self._world.step(f"list changes {entry.artifact_id}")
            self._change_state(entry)

    async def _delete_orphans(self, orphans: Sequence[str]) -> None:
        if not orphans:
            return
        try:
            answer = Fields(await self._calls.post("/artifacts/exists", {"artifactIds": list(orphans)}))
            existing = {item.text("artifactId") for item in answer.items("artifacts") if item.flag("exists")}
        except (CallFailed, ValueError) as problem:
            self._records.note(f"nothing deleted: {problem}")
            return
        stored = self._database.artifacts.stored
        gone = (artifact_id for artifact_id in orphans if artifact_id not in existing and artifact_id in stored)
        for artifact_id in sorted(gone, key=lambda artifact_id: DELETION_ORDER.index(stored[artifact_id].kind)):
            await self._world.step(f"list deletes {artifact_id}")
            self._delete(artifact_id)

    def _delete(self, artifact_id: str) -> None:
        if (present := self._database.artifacts.stored.get(artifact_id)) is not None:
            self._database.delete_artifact(artifact_id, kind=present.kind, event_id="")
            self._records.changed()

    async def _fetch(self, batch: Sequence[Listed]) -> None:
        try:
            documents = await self._calls.documents([entry.deployment_id for entry in batch])
        except (CallFailed, Rejected) as problem:
            self._records.note(f"batch skipped: {problem}")
            return
        for entry in batch:
            await self._world.step(f"list stores {entry.artifact_id}")
            try:
                self._deploy(entry, documents.get(entry.deployment_id))
            except Rejected as problem:
                self._records.note(f"deployment {entry.deployment_id} skipped: {problem}")

    def _deploy(self, entry: Listed, text: str | None) -> None:
        if text is None or entry.deployed_at is None:
            raise Rejected("it is not in the archive, or has no time")
        # Unlike after an event, secrets are not fetched on demand here.
        artifact = Artifact(
            kind=entry.kind,
            # Whatever state was listed: what is fetched ends up deployed.
            state=DEPLOYED,
            deployment_id=entry.deployment_id,
            performed_at=entry.deployed_at,
            document=parse_document(text),
        )
        artifacts = self._database.artifacts
        artifacts.save(entry.artifact_id, artifacts.completed(entry.artifact_id, artifact), event_id=entry.event_id)
        self._records.changed()

    def _change_state(self, entry: Listed) -> None:
        if entry.artifact_id in self._database.artifacts.stored and entry.deployed_at is not None:
            fields = {"state": entry.state, "performed_at": entry.deployed_at}
            self._database.artifacts.change_state(entry.artifact_id, fields, event_id=entry.event_id)
            self._records.changed()


def make_plan(listed: Sequence[Listed], stored: dict[str, Artifact]) -> Plan:
    """Compare the list with what is here, by the rules of section 3.4."""
    usable = [entry for entry in listed if entry.kind in FETCH_ORDER and entry.state in (DEPLOYED, UNDEPLOYED)]
    to_fetch = [entry for entry in usable if _must_fetch(entry, stored.get(entry.artifact_id))]
    to_change = [entry for entry in usable if _must_change(entry, stored.get(entry.artifact_id))]
    # An entry that cannot be used still protects its artifact.
    protected = {entry.artifact_id for entry in listed}
    orphans = [artifact_id for artifact_id in stored if artifact_id not in protected]
    return Plan(sorted(to_fetch, key=lambda entry: FETCH_ORDER.index(entry.kind)), to_change, orphans)


def _must_fetch(entry: Listed, present: Artifact | None) -> bool:
    if present is None:
        return entry.state == DEPLOYED
    if entry.deployment_id != present.deployment_id:
        return True
    return entry.state == present.state and entry.deployed_at != present.performed_at


def _must_change(entry: Listed, present: Artifact | None) -> bool:
    return present is not None and entry.deployment_id == present.deployment_id and entry.state != present.state


def _listed(item: Fields) -> Listed:
    deployed_at = item.instant("deployedAt")
    return Listed(
        artifact_id=item.text("artifactId"),
        deployment_id=item.text("deploymentId"),
        kind=item.text("kind"),
        state=item.text("state").lower(),
        deployed_at=deployed_at.moment if deployed_at else None,
        event_id=item.text("etag"),
    )


def _batches(entries: Sequence[Listed], size: int) -> Iterator[Sequence[Listed]]:
    remaining = iter(entries)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
