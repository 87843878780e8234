"""The simulator can fail: each classic mistake, planted on purpose, is found within a few seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from gatecast.delivery import delivery, feed, publisher, reader, subscription
from gatecast.delivery.resume import Start
from gatecast.events import Event, Position
from gatecast.protocol.session import SessionLimits
from gatecast.storage.contract import Changes, Entity, OutcomeKind, Progress, ReadResult, Receipt, Standing
from gatecast.testing.simulation import database, world
from gatecast.testing.virtual_time import run_in_virtual_time

#: A mistake must show within so many seeds.
SEEDS = 400

Plant = Callable[[pytest.MonkeyPatch], None]


def _cursor_over_a_sequence(patch: pytest.MonkeyPatch) -> None:
    """The marker runs ahead of transactions that have not committed yet, as a cursor by id or timestamp does."""

    def changed_since(self: database.SimulatedEventLog, marker: int) -> Changes:
        rows = self._database.rows
        heads = {name: stream.head for name, stream in rows.streams.items() if stream.changed_xid >= marker}
        return Changes(epoch=rows.epoch, heads=heads, marker=self._database._next_xid)

    patch.setattr(database.SimulatedEventLog, "_changed_since", changed_since)
    patch.setattr(world.SimulatedWakeup, "hear", lambda *_: None)


def _advance_on_send(patch: pytest.MonkeyPatch) -> None:
    """What was written to a socket counts as confirmed."""
    patch.setattr(subscription.Subscription, "mark_sent", subscription.Subscription.acknowledge)


def _acknowledge_before_commit(patch: pytest.MonkeyPatch) -> None:
    """The publisher is answered while its events still wait."""

    async def publish(self: publisher.Publisher, events: Sequence[Event]) -> tuple[Receipt, ...]:
        pending = self._enqueue(events)
        pending.receipts.add_done_callback(lambda receipts: receipts.cancelled() or receipts.exception())
        rows = self._log._database.rows  # type: ignore[attr-defined]
        return tuple(
            Receipt(
                gateway_id=event.gateway_id,
                event_id=event.event_id,
                position=Position(rows.epoch, rows.streams[event.gateway_id].head + 1),
                created=True,
            )
            for event in events
        )

    patch.setattr(publisher.Publisher, "publish", publish)


def _no_sweep(patch: pytest.MonkeyPatch) -> None:
    """Whatever a lost wake-up would have told is never looked for."""
    sweep = reader.Reader._sweep_if_due

    async def sweep_once(self: reader.Reader, now: float) -> None:
        if self._epoch is None:
            await sweep(self, now)
        self._sweep_due_at = now + 1e9

    patch.setattr(reader.Reader, "_sweep_if_due", sweep_once)
    patch.setattr(world.SimulatedWakeup, "regain", lambda self: setattr(self, "connected", True))


def _bump_without_event(patch: pytest.MonkeyPatch) -> None:
    """A repeated event id uses up an offset, as "check, then insert if absent" does under races."""
    append = database.SimulatedDatabase._append

    def bump(self: database.SimulatedDatabase, xid: int, event: Event) -> Receipt:
        receipt = append(self, xid, event)
        if not receipt.created:
            stream = self.rows.streams[event.gateway_id]
            stream.head, stream.changed_xid = stream.head + 1, xid
        return receipt

    patch.setattr(database.SimulatedDatabase, "_append", bump)


def _leak_feeds(patch: pytest.MonkeyPatch) -> None:
    """A connection that ends leaves its feed behind."""
    patch.setattr(
        delivery.Delivery,
        "_on_close",
        lambda self, closed: self._subscriptions.pop(closed.connection.connection_id, None),
    )


def _last_writer_wins(patch: pytest.MonkeyPatch) -> None:
    """An old connection's last word overwrites the position of a newer one."""

    def record(self: database.SimulatedPresence, progress: Sequence[Progress]) -> None:
        for one in progress:
            cursor = self._rows.cursors.get((one.gateway_id, one.replica))
            if cursor is not None and cursor.epoch == one.epoch:
                cursor.sent, cursor.confirmed = one.sent, one.confirmed

    patch.setattr(database.SimulatedPresence, "_record", record)
    patch.setattr(database.SimulatedPresence, "_move_cursor", lambda *_: None)


def _ignore_epochs(patch: pytest.MonkeyPatch) -> None:
    """An offset of one history is continued in another."""

    def decide(standing: Standing, after: Position | None) -> Start:
        known = after or standing.confirmed
        return Start(Position(standing.epoch, min(known.offset, standing.head) if known else 0))

    patch.setattr(delivery, "decide_start", decide)


def _drain_without_flush(patch: pytest.MonkeyPatch) -> None:
    """The pod ends before what it knows is stored."""

    async def drain(self: delivery.Delivery) -> None:
        for one in self.subscriptions:
            one.close()

    patch.setattr(delivery.Delivery, "drain", drain)


def _skip_when_full(patch: pytest.MonkeyPatch) -> None:
    """What does not fit into a feed is left out."""

    def accept(self: feed.Feed, result: ReadResult) -> None:
        if self.ended:
            return
        self.known_head = result.head
        for event in result.events:
            if len(self._queue) < 4:
                self._queue.append(event)
            self.read_through = event.offset
        self.changed.set()

    patch.setattr(feed.Feed, "accept", accept)


def _never_notice_silence(patch: pytest.MonkeyPatch) -> None:
    """A half-open connection lives for ever and holds the position back."""
    patch.setattr(world, "SessionLimits", lambda: SessionLimits(pong_timeout=1e9))


def _forget_who_must_resynchronize(patch: pytest.MonkeyPatch) -> None:
    """A gateway that was told to resynchronize and broke off counts as current when it comes back."""
    standing = database.SimulatedPresence._standing

    def forgetful(self: database.SimulatedPresence, gateway_id: str, replica: str) -> Standing:
        known = standing(self, gateway_id, replica)
        return Standing(
            epoch=known.epoch,
            head=known.head,
            trimmed_through=known.trimmed_through,
            confirmed=known.confirmed,
            resync_reason=None,
            registered_in=known.registered_in,
        )

    patch.setattr(database.SimulatedPresence, "_standing", forgetful)


def _pass_what_was_rejected(patch: pytest.MonkeyPatch) -> None:
    """A position passes an event before it is stored that it was rejected, or held."""
    patch.setattr(subscription.Subscription, "set_aside", lambda *_: None)


def _send_only_what_was_rejected(patch: pytest.MonkeyPatch) -> None:
    """A decision brings back the rejected event alone, so that it overtakes what came behind it."""

    def publish_again(self: database.SimulatedParking, xid: int, gateway_id: str, replica: str, entity: Entity) -> None:
        rows = self._database.rows
        for offset, event in sorted(rows.streams[gateway_id].events.items()):
            key = (gateway_id, replica, offset)
            if database.entity_of(event) == entity and rows.outcomes.get(key) in database.WAITS_FOR_A_DECISION:
                self._database.commit(xid, [database.copy_of(event, self._database.uuid())])
                rows.outcomes[key] = OutcomeKind.RELEASED

    patch.setattr(database.SimulatedParking, "_publish_again", publish_again)


MISTAKES: list[Plant] = [
    _cursor_over_a_sequence,
    _advance_on_send,
    _acknowledge_before_commit,
    _no_sweep,
    _bump_without_event,
    _leak_feeds,
    _last_writer_wins,
    _ignore_epochs,
    _drain_without_flush,
    _skip_when_full,
    _never_notice_silence,
    _forget_who_must_resynchronize,
    _pass_what_was_rejected,
    _send_only_what_was_rejected,
]


def _simulate_all() -> None:
    for seed in range(SEEDS):
        run_in_virtual_time(world.simulate(seed, with_restores=seed % 2 == 0))


@pytest.mark.parametrize("plant", MISTAKES, ids=lambda plant: plant.__name__.strip("_"))
def test_a_planted_mistake_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run with the mistake ends in a broken promise, or in a part that died of it."""
    plant(monkeypatch)
    with pytest.raises(Exception, match=r".") as found:
        _simulate_all()
    assert "replay with" in found.value.__notes__[0]
