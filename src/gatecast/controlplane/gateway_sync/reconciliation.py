"""Brings gateways to the desired state, whatever happened to them.

Each method learns something about a gateway's database and publishes the difference from the desired state, in one
transaction. `gatecast.controlplane.deployments.reconcile` computes the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from gatecast.controlplane.catalog.artifact_kinds import (
    ARTIFACT_KINDS,
    BY_KIND,
    LLM_PROVIDER,
    MCP_PROXY,
    REST_API,
    ArtifactKind,
)
from gatecast.controlplane.deployments.artifact_events import artifact_event
from gatecast.controlplane.deployments.placements import (
    UNKNOWN,
    WAITING,
    Desired,
    Known,
    Placement,
    known_on,
    store,
)
from gatecast.controlplane.deployments.placing import keys_of_placements, publish
from gatecast.controlplane.deployments.reconcile import (
    after_late_keys,
    after_lists,
    after_loss,
    after_new_database,
    after_silence,
)
from gatecast.controlplane.gateway_sync.kept_events import repeat_kept
from gatecast.controlplane.gateway_sync.synchronizations import (
    Synchronization,
    Synchronizations,
    forget_new_database,
    note_delivered,
)
from gatecast.controlplane.transactions.clock import milliseconds
from gatecast.controlplane.transactions.foreign_events import mark_unlisted
from gatecast.controlplane.transactions.unit_of_work import UnitOfWork, begin_unit_of_work
from gatecast.events import Action
from gatecast.hub import EventHub
from gatecast.storage.contract import ReadRequest, Transaction
from gatecast.storage.gathered_rows import gathered_rows
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole
from gatecast.storage.rows import as_keys
from gatecast.telemetry import get_logger

_QUERIES = Queries("gatecast.controlplane.gateway_sync", "reconciliation.sql")

#: With more events waiting than this, what may have been lost is looked for at the next connect.
_MAX_WAITING = 1_000
_MAX_WAITING_BYTES = 8 * 1024 * 1024

#: Clocks of pods differ by less, those of a database that is gone included; in milliseconds.
_CLOCKS_APART = 10_000

#: An event that failed up to this long before the first start-up call was handled beside these calls.
_BESIDE = timedelta(seconds=1)

#: Reasons that mean a lost history, whose additional content is unknown.
_LOST_HISTORIES = frozenset({"epoch", "ahead"})

#: Most artifacts that are remembered of one question.
_MAX_ORPHANS = 1_000

#: Most unknown artifacts of one gateway that are remembered.
_MAX_UNKNOWN = 10_000

#: The order in which unknown artifacts are removed: a provider after the proxies that use it.
_REMOVED = [artifact_kind.kind for artifact_kind in reversed(ARTIFACT_KINDS)]

_logger = get_logger("desired-state")


class DesiredState:
    """Learns what gateways have, and publishes what they lack."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._database = hub.database
        # Every gateway that connects asks for it.
        self._unsettled = gathered_rows(self._database, _QUERIES["unsettled"], "gateway_id")
        # Every connection asks for it as well, a few times.
        self._overlooked = gathered_rows(self._database, _QUERIES["overlooked"], "gateway_id")

    @whole
    async def lost(self, organization: str, gateway_id: str, reason: str) -> int:
        """The gateway's position cannot be continued: publish everything that it should have, and not have, once more.

        Return how many artifacts that were. Where a history was lost, everything is newer than what it can have sent.
        """
        after = milliseconds() + _CLOCKS_APART if reason in _LOST_HISTORIES else 0
        async with begin_unit_of_work(self._hub) as change:
            if after:
                await _raise_keys(change, gateway_id, after)
            await change.lock_gateways(organization, [gateway_id])
            placements = after_loss(await known_on(change, gateway_id))
            publish(change, organization, placements, await keys_of_placements(change, placements), after=after)
            await repeat_kept(change, gateway_id)
            if after:
                await mark_unlisted(change.transaction, gateway_id, reason)
        _logger.warning("desired-state-published", gateway=gateway_id, artifacts=len(placements), reason=reason)
        return len(placements)

    @whole
    async def read_lists(
        self, organization: str, gateway_id: str, seen: Synchronization | None, *, alone: bool = False
    ) -> bool:
        """The gateway has read its lists, or, with None, reads none: publish what it still lacks.

        `alone`: they were read over one connection, and not by replicas that cannot be told apart. Return whether the
        gateway has a new database.
        """
        if seen is None:
            return False
        has_lost = alone and seen.finished is not None and await self._has_lost(gateway_id, seen.number)
        anew = seen.began_anew or has_lost
        if not (seen.listed or anew or await self._is_unsettled(gateway_id)):
            return False
        async with begin_unit_of_work(self._hub) as change:
            await change.lock_gateways(organization, [gateway_id])
            known = await known_on(change, gateway_id)
            complete = seen.listed and seen.secrets_read and not has_lost
            learned = after_lists(known, complete=complete, anew=anew, since=seen.began_at - _BESIDE)
            await _learn(change, organization, known, learned.placements)
            if learned.new_life:
                await repeat_kept(change, gateway_id)
            if learned.delivered:
                await note_delivered(change.transaction, gateway_id, seen.number)
            elif seen.began_anew:
                await forget_new_database(change.transaction, gateway_id)
            if seen.listed:
                await _remove_orphans(change, gateway_id)
                if learned.delivered or not _has_keys_in_no_list(known):
                    # It was told for each of its artifacts whether to keep it, or had none.
                    await mark_unlisted(change.transaction, gateway_id, "")
        return learned.new_life

    async def began_anew(self, organization: str, gateway_id: str) -> bool:
        """If the gateway has shown that its database is a new one, publish everything; return whether that was so.

        While it reads its lists that is left to `read_lists`: they may be about to bring it everything.
        """
        seen = await Synchronizations(self._database).of_gateway(gateway_id)
        if seen is None or not seen.began_anew or not seen.is_over:
            return False
        await self._begin_anew(organization, gateway_id)
        return True

    @whole
    async def _begin_anew(self, organization: str, gateway_id: str) -> None:
        async with begin_unit_of_work(self._hub) as change:
            await change.lock_gateways(organization, [gateway_id])
            known = await known_on(change, gateway_id)
            await _learn(change, organization, known, after_new_database(known))
            await repeat_kept(change, gateway_id)
            await forget_new_database(change.transaction, gateway_id)
        _logger.warning("desired-state-published", gateway=gateway_id, artifacts=len(known), reason="new-database")

    async def _is_unsettled(self, gateway_id: str) -> bool:
        return bool(await self._unsettled.ask(gateway_id))

    async def _has_lost(self, gateway_id: str, number: int) -> bool:
        """Whether the gateway lacks an API that it had; not said while replicas of it are connected."""
        lacks = await self._database.fetch(_QUERIES["not_named"], gateway_id, number, REST_API.kind)
        return bool(lacks) and await self._has_one_connection(gateway_id)

    async def _has_one_connection(self, gateway_id: str) -> bool:
        status = (await self._hub.status([gateway_id])).get(gateway_id)
        return status is not None and len(status.connections) == 1

    async def named(self, gateway_id: str, api_id: str) -> None:
        """The gateway has an API with this id: remember that if the id is unknown here."""
        await self._database.execute(_QUERIES["note_named"], gateway_id, api_id)
        if await self._database.fetch(_QUERIES["is_unknown"], gateway_id, api_id):
            await self._note_unknown(gateway_id, api_id)

    @whole
    async def _note_unknown(self, gateway_id: str, api_id: str) -> None:
        async with self._database.transaction() as transaction:
            await note_unknown(transaction, gateway_id, api_id, REST_API)

    @whole
    async def orphaned(self, gateway_id: str, artifact_ids: Iterable[str]) -> None:
        """The gateway was told not to keep these: remember the unknown ones.

        It cannot remove a provider while one of its proxies uses it, and does not try again before its next start.
        """
        async with self._database.transaction() as transaction:
            for artifact_id in sorted(artifact_ids)[:_MAX_ORPHANS]:
                await note_unknown(transaction, gateway_id, artifact_id, LLM_PROVIDER)

    @whole
    async def remove_unknown(self, organization: str, gateway_id: str) -> None:
        """Publish the deletion of artifacts that only a lost history knew, as far as the gateway has named them.

        Gateway-owned artifacts are not among them: without the gateway's announcement of those, this does nothing.
        """
        if not await self._database.fetch(_QUERIES["unknown_apis"], gateway_id):
            return
        async with begin_unit_of_work(self._hub) as change:
            await change.lock_gateways(organization, [gateway_id])
            rows = await change.transaction.fetch(_QUERIES["unknown_apis"], gateway_id)
            # Proxies before the providers that they use.
            removed = [(_REMOVED.index(row["kind"]), row["artifact_id"]) for row in rows if row["kind"] in _REMOVED]
            for kind, artifact_id in sorted(removed):
                ids = {"artifact_id": artifact_id, "gateway_id": gateway_id}
                change.events.append(artifact_event(BY_KIND[_REMOVED[kind]], "deleted", Action.DELETE, **ids))
            await change.transaction.execute(_QUERIES["forget_unknown"], gateway_id)
        _logger.warning("unknown-artifacts-removed", gateway=gateway_id, artifacts=len(rows))

    async def answered_nothing(self, organization: str, gateway_id: str, confirmed: int) -> int | None:
        """Republish events that a gateway has handled but never acknowledged.

        An acknowledgement that is lost is not repeated, and the same event again would be ignored as stale
        (gateway-protocol.md 2.2). `confirmed` is the last offset that the gateway has handled. Return the offset at
        which to look again, because events that wait for the gateway now may be stale for it; None: there are none.
        """
        if not await self._is_unsettled(gateway_id):
            return None
        request = ReadRequest(
            gateway_id=gateway_id, after=confirmed, max_events=_MAX_WAITING, max_bytes=_MAX_WAITING_BYTES
        )
        queue = await self._hub.unforwarded(gateway_id)
        [result] = await self._hub.engine.log.read([request])
        if result is None or (result.events[-1].offset if result.events else confirmed) < result.head:
            return result.head if result is not None else None
        waiting = {str(event.event_id) for event in result.events}
        unforwarded = {str(event_id) for event_id in queue.event_ids} - waiting
        if not queue.is_complete:
            return result.head + queue.events
        waiting |= unforwarded
        unanswered = await self._publish_silent(organization, gateway_id, waiting)
        return result.head + len(unforwarded) if waiting & unanswered else None

    @whole
    async def _publish_silent(self, organization: str, gateway_id: str, waiting: set[str]) -> set[str]:
        """The events of unanswered placements; events that the gateway has handled are republished."""
        async with begin_unit_of_work(self._hub) as change:
            await change.lock_gateways(organization, [gateway_id])
            known = [each for each in await known_on(change, gateway_id) if _is_open(each)]
            events = {each.placement.event_id for each in known}
            for each in known:
                if each.placement.desired is Desired.DELETED and each.placement.event_id not in waiting:
                    # Nothing acknowledges a deletion: that it was handled is the final word.
                    ids = (each.placement.artifact_id, gateway_id)
                    await change.transaction.execute(_QUERIES["delete_placement"], *ids)
            await _publish(change, organization, after_silence(known, frozenset(events - waiting)))
        return events

    async def look_again(self, organization: str, gateway_id: str, since: int) -> None:
        """Publish what the lists that the gateway has read since a moment, in milliseconds since 1970, may lack.

        There is hardly ever anything, so one question asks it for all gateways whose time has come.
        """
        for row in await self._overlooked.ask(gateway_id):
            if row["keys_changed_at"] >= since:
                await self.keys_changed_late(organization, gateway_id, since)
            if row["has_unknown"]:
                await self.remove_unknown(organization, gateway_id)
            if row["began_anew"]:
                await self.began_anew(organization, gateway_id)

    async def keys_changed_late(self, organization: str, gateway_id: str, since: int) -> None:
        """Republish the changes of keys since an instant, in milliseconds since 1970.

        A gateway that connects reads its keys in lists. When the list arrives, a key created meanwhile is removed, and
        a key revoked meanwhile comes back.
        """
        rows = await self._database.fetch(_QUERIES["late_keys"], gateway_id, since)
        if changed := {row["artifact_id"] for row in rows}:
            await self._learned(
                organization,
                gateway_id,
                lambda known: after_late_keys((each for each in known if each.placement.artifact_id in changed), since),
            )

    async def settle(self, organization: str, gateway_id: str) -> None:
        """Publish what is in doubt."""
        await self._learned(
            organization, gateway_id, lambda known: [each.placement for each in known if each.placement.doubt]
        )

    @whole
    async def _learned(
        self, organization: str, gateway_id: str, learn: Callable[[Sequence[Known]], Sequence[Placement]]
    ) -> None:
        async with begin_unit_of_work(self._hub) as change:
            await change.lock_gateways(organization, [gateway_id])
            await _publish(change, organization, learn(await known_on(change, gateway_id)))

    async def note_listed(self, gateway_id: str) -> None:
        """The gateway is given the list of deployments: its process has started."""
        await self._database.execute(_QUERIES["note_listed"], gateway_id)

    async def note_fetched(self, gateway_id: str, deployment_ids: Iterable[str]) -> None:
        """The gateway was given these documents from the list."""
        await self._database.execute(_QUERIES["note_fetched"], gateway_id, as_keys(deployment_ids))


async def _remove_orphans(change: UnitOfWork, gateway_id: str) -> None:
    """Publish the deletion of artifacts that the gateway may have failed to remove; it ignores unknown ones."""
    rows = await change.transaction.fetch(_QUERIES["orphans"], gateway_id, LLM_PROVIDER.kind)
    for row in rows:
        ids = {"artifact_id": row["artifact_id"], "gateway_id": gateway_id}
        change.events.append(artifact_event(LLM_PROVIDER, "deleted", Action.DELETE, **ids))
    if rows:
        await change.transaction.execute(_QUERIES["forget_unknown"], gateway_id)


async def note_unknown(
    transaction: Transaction, gateway_id: str, artifact_id: str, artifact_kind: ArtifactKind
) -> None:
    """Remember that a gateway has an artifact, if it is unknown here."""
    if await transaction.fetch(_QUERIES["is_unknown"], gateway_id, artifact_id):
        await transaction.execute(_QUERIES["note_unknown"], gateway_id, artifact_id, artifact_kind.kind, _MAX_UNKNOWN)


def _is_open(known: Known) -> bool:
    """Whether its answer is awaited, or it is a deletion, which has none."""
    return known.placement.desired is Desired.DELETED or known.state in WAITING


async def _learn(change: UnitOfWork, organization: str, before: Sequence[Known], learned: Sequence[Placement]) -> None:
    """Publish what gateways lack, and store what else was learned."""
    lacking = [each for each in learned if each.doubt or each.keys_through == UNKNOWN]
    published = {each.artifact_id for each in await _publish(change, organization, lacking)}
    for known, placement in zip(before, learned, strict=True):
        if placement != known.placement and placement.artifact_id not in published:
            store(change, placement)


async def _publish(change: UnitOfWork, organization: str, placements: Sequence[Placement]) -> list[Placement]:
    return publish(change, organization, placements, await keys_of_placements(change, placements))


def _has_keys_in_no_list(known: Iterable[Known]) -> bool:
    """Whether a gateway may have keys that it asks for in no list, and that only a lost history knew."""
    placements = [each.placement for each in known]
    return any(each.artifact_kind is MCP_PROXY and each.desired is not Desired.DELETED for each in placements)


async def _raise_keys(change: UnitOfWork, gateway_id: str, version: int) -> None:
    """Give the keys on a gateway versions that no lost history can have sent.

    Artifacts are locked before gateways.
    """
    rows = await change.transaction.fetch(_QUERIES["artifacts_of_gateway"], gateway_id)
    if rows:
        artifacts = as_keys(row["artifact_id"] for row in rows)
        await change.transaction.fetch(_QUERIES["lock_any_artifacts"], artifacts)
        await change.transaction.execute(_QUERIES["raise_keys"], artifacts, version)
