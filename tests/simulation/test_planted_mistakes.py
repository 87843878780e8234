"""The simulator can fail: each classic mistake, planted on purpose, is found within a few seeds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

import pytest

from gatecast.delivery import delivery, feed, history_watch, progress, publisher, reader, resume, subscription
from gatecast.delivery.resume import Start
from gatecast.events import Event, Position
from gatecast.protocol import codec
from gatecast.protocol.session import SessionLimits
from gatecast.storage.contract import (
    Changes,
    DisconnectReason,
    Entity,
    OutcomeKind,
    PositionState,
    Progress,
    ReadRequest,
    ReadResult,
    Receipt,
    Remembered,
)
from gatecast.testing.virtual_time import run_in_virtual_time
from simulation import database, isolation
from simulation.history import PromiseBroken
from simulation.run import simulate
from simulation.wakeup import SimulatedWakeup

#: A mistake must show within so many seeds.
SEEDS = 400

#: In these most mistakes show, so they come first.
_TELLING = (0, 30, 3, 29, 4, 6)

Plant = Callable[[pytest.MonkeyPatch], None]


def _cursor_over_a_sequence(patch: pytest.MonkeyPatch) -> None:
    """The marker runs ahead of transactions that have not committed yet, as a cursor by id or timestamp does."""

    def changed_since(self: database.SimulatedEventLog, marker: int) -> Changes:
        rows = self._database.rows
        heads = {name: stream.head for name, stream in rows.streams.items() if stream.changed_xid >= marker}
        return Changes(epoch=rows.epoch, heads=heads, marker=self._database._next_xid)

    patch.setattr(database.SimulatedEventLog, "_changed_since", changed_since)
    patch.setattr(SimulatedWakeup, "hear", lambda *_: None)


def _advance_on_send(patch: pytest.MonkeyPatch) -> None:
    """What was written to a socket counts as confirmed."""
    patch.setattr(subscription.Subscription, "mark_sent", subscription.Subscription.acknowledge)


def _lose_the_end_of_a_batch(patch: pytest.MonkeyPatch) -> None:
    """Of a frame with several events the last one is left out."""
    joined = codec.join_messages

    def shortened(messages: Iterable[str], most_bytes: int) -> list[str]:
        return [frame.rpartition(codec.SEPARATOR)[0] or frame for frame in joined(messages, most_bytes)]

    patch.setattr(codec, "join_messages", shortened)


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
    """A pod that hears wake-ups again does not look at what it missed meanwhile."""
    patch.setattr(SimulatedWakeup, "regain", lambda self: setattr(self, "connected", True))


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

    def record(self: database.SimulatedPresence, moved: Sequence[Progress]) -> None:
        for one in moved:
            cursor = self._rows.cursors.get((one.gateway_id, one.replica))
            if cursor is not None and cursor.epoch == one.epoch:
                cursor.sent, cursor.confirmed = one.sent, one.confirmed

    patch.setattr(database.SimulatedPresence, "_record", record)
    patch.setattr(database.SimulatedPresence, "_move_cursor", lambda *_: None)


def _ignore_epochs(patch: pytest.MonkeyPatch) -> None:
    """An offset of one history is continued in another."""

    def decide(standing: PositionState, after: Position | None) -> Start:
        known = after or standing.confirmed
        # What was parked and removed is told nevertheless: without that nobody could connect, which is another mistake.
        position = Position(standing.epoch, min(known.offset, standing.head) if known else 0)
        return Start(position, standing.resync_reason)

    patch.setattr(delivery, "decide_start", decide)


def _drain_without_flush(patch: pytest.MonkeyPatch) -> None:
    """The pod ends before what it knows is stored."""

    async def flush(_: progress.ProgressRecorder) -> None:
        """Nothing is waited for."""

    patch.setattr(progress.ProgressRecorder, "flush", flush)


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
    patch.setattr(isolation, "SessionLimits", functools.partial(SessionLimits, pong_timeout=1e9))


def _forget_who_must_resynchronize(patch: pytest.MonkeyPatch) -> None:
    """A gateway that was told to resynchronize and broke off counts as current when it comes back."""
    standing = database.SimulatedPresence._standing

    def forgetful(self: database.SimulatedPresence, gateway_id: str, replica: str) -> PositionState:
        known = standing(self, gateway_id, replica)
        return PositionState(
            epoch=known.epoch,
            head=known.head,
            low_water_mark=known.low_water_mark,
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


def _read_without_room(patch: pytest.MonkeyPatch) -> None:
    """A feed takes whatever there is, however much waits already."""

    def request(self: feed.Feed) -> ReadRequest:
        self.suspect = False
        return ReadRequest(
            gateway_id=self.gateway_id, after=self.read_through, max_events=feed.MAX_EVENTS, max_bytes=feed.MAX_BYTES
        )

    patch.setattr(feed.Feed, "_has_room", True)
    patch.setattr(feed.Feed, "request", request)


def _one_full_feed_stops_all(patch: pytest.MonkeyPatch) -> None:
    """While one connection has no room, nothing is read for any other."""
    read_due = reader.Reader._read_due

    async def read_unless_one_is_full(self: reader.Reader) -> None:
        if all(feed._has_room for feed in self._all_feeds()):
            await read_due(self)

    patch.setattr(reader.Reader, "_read_due", read_unless_one_is_full)


def _begin_with_all_that_is_retained(patch: pytest.MonkeyPatch) -> None:
    """A connecting gateway gets every retained event again."""

    def decide(standing: PositionState, after: Position | None) -> Start:
        start = resume.decide_start(standing, after)
        return Start(Position(standing.epoch, standing.low_water_mark), start.lost)

    patch.setattr(delivery, "decide_start", decide)


def _revoke_for_new_connections_only(patch: pytest.MonkeyPatch) -> None:
    """A connection that is open stays, although its token was revoked."""
    end_with = delivery.Delivery._end_with

    def end_others(self: delivery.Delivery, connection_id: str, reason: str) -> None:
        if reason != DisconnectReason.TOKEN_REVOKED:
            end_with(self, connection_id, reason)

    patch.setattr(delivery.Delivery, "_end_with", end_others)


def _compare_lengths_only(patch: pytest.MonkeyPatch) -> None:
    """A standby that lacks events counts as the same history, unless its logs are shorter than what was read."""

    def settle(self: database.SimulatedDatabase, _verdict: str) -> UUID:
        self.rows.place, self.rows.synchronous = self.place, self.synchronous
        return self.rows.epoch

    def is_missing(self: database.SimulatedEventLog, one: Remembered) -> bool:
        return self._database.rows.streams[one.gateway_id].head < one.offset

    patch.setattr(database.SimulatedDatabase, "settle", settle)
    patch.setattr(database.SimulatedEventLog, "_is_missing", is_missing)


def _take_whatever_answers(patch: pytest.MonkeyPatch) -> None:
    """Another server's events are read before anybody has looked at it, and nothing that was read is remembered."""
    patch.setattr(history_watch.HistoryWatch, "check", lambda *_: None)
    _compare_lengths_only(patch)


def _alarm_at_every_failover(patch: pytest.MonkeyPatch) -> None:
    """A server in another place is taken for one that lost events."""
    patch.setattr(
        database.SimulatedDatabase,
        "settle",
        lambda self, _verdict: self.rows.epoch if self.settled else self.replace_history(),
    )


#: Each mistake, and the promises that it may be found by.
MISTAKES: dict[Plant, str] = {
    _cursor_over_a_sequence: "P3",
    _advance_on_send: "P4",
    # Noticed by the position that stays behind, or by the event after the hole.
    _lose_the_end_of_a_batch: "P[234]",
    _acknowledge_before_commit: "P1",
    # A gateway that waits for what its pod did not hear of is noticed before its log is known to have a hole.
    _no_sweep: "P[37]",
    _bump_without_event: "P2",
    _leak_feeds: "S14",
    _last_writer_wins: "P4",
    _ignore_epochs: "P6",
    _drain_without_flush: "P5",
    # Beside what a parked entity holds back, the hole is passed over and counts as confirmed.
    _skip_when_full: "P[34]",
    _never_notice_silence: "P4",
    _forget_who_must_resynchronize: "P6",
    _pass_what_was_rejected: "P4",
    _send_only_what_was_rejected: "P2",
    _read_without_room: "P7",
    _one_full_feed_stops_all: "P7",
    _begin_with_all_that_is_retained: "P5",
    # What is revoked moves no position any more, which may be noticed first.
    _revoke_for_new_connections_only: "P[49]",
    _compare_lengths_only: "P6",
    _take_whatever_answers: "P6",
    _alarm_at_every_failover: "P6",
}


def _simulate_all() -> None:
    for seed in dict.fromkeys([*_TELLING, *range(SEEDS)]):
        run_in_virtual_time(simulate(seed, with_restores=seed % 2 == 0))


@pytest.mark.parametrize(("plant", "promise"), MISTAKES.items(), ids=[plant.__name__.strip("_") for plant in MISTAKES])
def test_a_planted_mistake_is_found(plant: Plant, promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run with the mistake ends in the promise that it breaks."""
    plant(monkeypatch)
    with pytest.raises(PromiseBroken, match=rf"^{promise}:") as found:
        _simulate_all()
    assert "replay with" in found.value.__notes__[0]
