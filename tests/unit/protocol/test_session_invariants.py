"""Random conversations, held against a model that knows only what was sent and what the peer said."""

from __future__ import annotations

import json
from itertools import pairwise
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gatecast.events import Action as EventAction
from gatecast.events import Position, RecordedEvent
from gatecast.protocol import codec
from gatecast.protocol.close_codes import SILENT
from gatecast.protocol.instants import parse_instant
from gatecast.protocol.session import (
    Close,
    Confirmed,
    Opening,
    Rejected,
    SendPing,
    SendText,
    ServerSession,
    SessionAction,
    SessionLimits,
    Version,
)

EPOCH = UUID("99999999-2222-4333-8444-555555555555")
MOMENT = parse_instant("2026-01-02T03:04:05Z")
LIMITS = SessionLimits(window_v1=12, window_v2=16, ping_every=5)
TYPES = ["llmprovider.deployed", "api.undeployed", "apikey.created", "connection.ack"]
ASIDE = st.integers(-2, 30)

#: An event that the model saw go out, or a Ping.
Frame = int | bytes


class Conversation(RuleBasedStateMachine):
    """One session, one peer that says anything at any time."""

    @initialize(version=st.sampled_from(Version), start=st.integers(0, 3), batch_bytes=st.sampled_from([0, 600, 10**6]))
    def open(self, version: Version, start: int, batch_bytes: int) -> None:
        """Begin behind `start`."""
        opening = Opening(
            gateway_id="g", connection_id="c", epoch=EPOCH, start=start, version=version, batch_bytes=batch_bytes
        )
        self.now = 0.0
        self.version = version
        self.start = start
        self.session = ServerSession(opening, LIMITS, now=0.0)
        self.window = LIMITS.window_v1 if version is Version.GATEWAY_V1 else LIMITS.window_v2
        self.confirmed = start
        self.closed = False
        #: What went over the wire, in order; a negative number is a `*.deployed` event.
        self.frames: list[Frame] = []
        #: Offsets of which the peer proved that it handled them, or that were skipped.
        self.handled: set[int] = set()

    # --- what the server does -----------------------------------------------------------------------------------

    @rule(kinds=st.lists(st.sampled_from(TYPES), max_size=20))
    def deliver(self, kinds: list[str]) -> None:
        """Hand in as much as there is room for."""
        first = self.session.sent + 1
        events = [_event(first + index, kind) for index, kind in enumerate(kinds[: self.session.room])]
        self.follow(self.session.deliver(events, self.now))

    @precondition(lambda self: not self.closed)
    @rule(distance=st.integers(1, 30))
    def skip(self, distance: int) -> None:
        """Pass over parked events."""
        sent = self.session.sent
        self.handled.update(range(sent + 1, sent + distance + 1))
        self.follow(self.session.skip_to(sent + distance))

    @rule(seconds=st.sampled_from([0.0, 0.5, 5.0, 15.0, 40.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass, ticking when the session wants it."""
        until = self.now + seconds
        while self.session.next_tick_at <= until:
            self.now = max(self.now, self.session.next_tick_at)
            self.follow(self.session.tick(self.now))
            assert self.session.next_tick_at > self.now, "a tick that leads nowhere would spin"
        self.now = until

    # --- what the peer says -------------------------------------------------------------------------------------

    @precondition(lambda self: any(isinstance(frame, bytes) for frame in self.frames))
    @rule(data=st.data())
    def pong(self, data: st.DataObject) -> None:
        """Echo one of the Pings, perhaps an old one, perhaps again."""
        pings = [index for index, frame in enumerate(self.frames) if isinstance(frame, bytes)]
        index = data.draw(st.sampled_from(pings))
        if self.version is Version.GATEWAY_V1:
            self.handled.update(abs(frame) for frame in self.frames[:index] if isinstance(frame, int))
        payload = self.frames[index]
        assert isinstance(payload, bytes)
        self.follow(self.session.receive_pong(payload, self.now))

    @rule(offset=ASIDE, epoch=st.sampled_from([str(EPOCH), "00000000-0000-0000-0000-000000000001", "x"]))
    def forged_pong(self, offset: int, epoch: str) -> None:
        """Echo what no Ping carried."""
        payload = f"{epoch}:{offset}".encode()
        if payload not in self.frames:
            self.follow(self.session.receive_pong(payload, self.now))

    @rule(aside=ASIDE, epoch=st.sampled_from([EPOCH, UUID(int=1)]))
    def position_ack(self, aside: int, epoch: UUID) -> None:
        """Acknowledge something near what is in flight."""
        offset = max(0, self.confirmed + aside)
        valid = self.version is Version.GATECAST_V2 and epoch == EPOCH and offset <= self.session.sent
        if valid:
            self.handled.update(range(self.start + 1, offset + 1))
        self.hear(codec.encode_position_ack(Position(epoch, offset)))

    @rule(aside=ASIDE, epoch=st.sampled_from([EPOCH, UUID(int=1)]))
    def reject(self, aside: int, epoch: UUID) -> None:
        """Reject something near what is in flight."""
        offset = max(0, self.confirmed + aside)
        valid = self.version is Version.GATECAST_V2 and epoch == EPOCH and 0 < offset <= self.session.sent
        if valid:
            self.handled.add(offset)
        actions = self.hear(codec.encode_event_reject(Position(epoch, offset), "no"))
        rejected = [action for action in actions if isinstance(action, Rejected)]
        assert rejected == ([Rejected(offset, "no")] if valid and not self.closed else [])

    @rule(text=st.text() | st.sampled_from(["{}", "[" * 5_000, '{"type":"deployment.ack","payload":{}}']))
    def garbage(self, text: str) -> None:
        """Say nothing of meaning."""
        assert not self.hear(text)

    @rule()
    def binary(self) -> None:
        """Send a binary frame."""
        self.follow(self.session.receive_binary(self.now))

    # --- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def confirmed_lies_between_start_and_sent(self) -> None:
        """0 ≤ confirmed ≤ sent."""
        assert self.start <= self.session.confirmed <= self.session.sent

    @invariant()
    def confirmed_is_what_was_told(self) -> None:
        """The shell learns of every move."""
        assert self.session.confirmed == self.confirmed

    @invariant()
    def everything_confirmed_was_handled(self) -> None:
        """Nothing is confirmed that was neither echoed, acknowledged, rejected nor skipped."""
        assert self.handled.issuperset(range(self.start + 1, self.session.confirmed + 1))

    @invariant()
    def the_window_is_never_exceeded(self) -> None:
        """No more events are in flight than the window allows."""
        in_flight = {abs(frame) for frame in self.frames if isinstance(frame, int)} - self.handled
        assert len([offset for offset in in_flight if offset > self.session.confirmed]) <= self.window
        assert 0 <= self.session.room <= self.window

    @invariant()
    def pings_come_often_enough(self) -> None:
        """An unmodified gateway reads a Ping behind each download, each fifth event, and each batch."""
        if self.version is not Version.GATEWAY_V1:
            return
        without = 0
        for frame in self.frames:
            without = without + 1 if isinstance(frame, int) else 0
            assert without <= LIMITS.ping_every
        for frame, following in pairwise(self.frames):
            if isinstance(frame, int) and frame < 0:
                assert isinstance(following, bytes)
        assert not self.frames or isinstance(self.frames[-1], bytes)

    @invariant()
    def a_closed_session_is_quiet(self) -> None:
        """Nothing can be handed in any more."""
        assert not self.closed or self.session.room == 0

    # --- following it -------------------------------------------------------------------------------------------

    def hear(self, text: str) -> list[SessionAction]:
        """Give the session a text frame."""
        actions = self.session.receive_text(text, self.now)
        self.follow(actions)
        return actions

    def follow(self, actions: list[SessionAction]) -> None:
        """Do with the actions what the shell does."""
        assert not (self.closed and actions), "a closed session says nothing"
        for action in actions:
            match action:
                case SendText(text):
                    self.frames += map(_offset_sent, text.split(codec.SEPARATOR))
                case SendPing(payload):
                    self.frames.append(payload)
                case Confirmed(offset):
                    assert offset > self.confirmed, "it never moves back"
                    self.confirmed = offset
                case Close(code):
                    assert code == SILENT
                    self.closed = True
                case _:
                    pass


def _event(offset: int, kind: str) -> RecordedEvent:
    return RecordedEvent(
        gateway_id="g",
        offset=offset,
        event_id=UUID(int=offset),
        type=kind,
        action=EventAction.UPDATE,
        entity_type="e",
        entity_id="i",
        payload="{}",
        originated_at=MOMENT,
        recorded_at=MOMENT,
    )


def _offset_sent(text: str) -> int:
    message = json.loads(text)
    offset = Position.parse(message["position"]).offset
    return -offset if message["type"].endswith(".deployed") else offset


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=settings().max_examples * 3 // 2, stateful_step_count=40)
