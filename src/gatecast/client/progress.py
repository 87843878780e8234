"""The user's progress, which outlives connections."""

from __future__ import annotations

from collections import OrderedDict

from gatecast.errors import InvalidValue
from gatecast.events import Position
from gatecast.protocol.window import Window


class ClientProgress:
    """Which events were handed to the user, and which of them the user acknowledged or rejected."""

    def __init__(self, after: Position | None, event_id: str | None = None) -> None:
        self._epoch = after.epoch if after else None
        self._window = Window(after.offset if after else 0)
        #: Ids of the events from `position` on, by offset, of this epoch.
        self._ids: OrderedDict[int, str] = OrderedDict()
        if after is not None and event_id is not None:
            self._ids[after.offset] = event_id
        #: Reasons by offset, of this epoch, until the server has certainly stored them.
        self.rejections: dict[int, str] = {}

    @property
    def acked(self) -> Position | None:
        """Everything up to here was acknowledged or rejected; None until it is known where delivery begins."""
        return Position(self._epoch, self._window.confirmed) if self._epoch else None

    @property
    def position(self) -> Position | None:
        """Where to continue: it passes no rejection that the server may not have stored."""
        if self._epoch is None:
            return None
        confirmed = self._window.confirmed
        return Position(self._epoch, min(confirmed, min(self.rejections, default=confirmed + 1) - 1))

    @property
    def event_id(self) -> str | None:
        """The id of the event at `position`; None if that event was not handed out."""
        position = self.position
        return None if position is None else self._ids.get(position.offset)

    def is_new(self, position: Position) -> bool:
        """False for an event that the user has had already."""
        return position.epoch != self._epoch or position.offset > self._window.sent

    def hand_out(self, position: Position, event_id: str = "") -> None:
        """Note that the user gets this event now."""
        if self._epoch is None:
            self.begin_behind(Position(position.epoch, position.offset - 1))
        if position.offset > self._window.sent + 1:
            self._window.skip_to(position.offset - 1)
        self._window.extend()
        if event_id:
            self._ids[position.offset] = event_id
        self._forget_settled()

    def _forget_settled(self) -> None:
        """Keep the id of the event at the position, and those of later ones."""
        position = self.position
        while self._ids and position is not None and next(iter(self._ids)) < position.offset:
            self._ids.popitem(last=False)

    def acknowledge(self, position: Position) -> None:
        """Acknowledge everything up to and including this position; ignored after a resynchronization.

        Raises:
            InvalidValue: the user has not had that event.
        """
        if self._concerns_us(position):
            self._window.ack_through(position.offset)

    def reject(self, position: Position, reason: str) -> None:
        """Reject this one event as impossible to apply.

        Raises:
            InvalidValue: the user has not had that event.
        """
        if self._concerns_us(position) and self._window.is_open(position.offset):
            self._window.ack(position.offset)
            self.rejections[position.offset] = reason

    def begin_behind(self, position: Position) -> None:
        """Continue after a resynchronization."""
        self._epoch = position.epoch
        self._window = Window(position.offset)
        self._ids.clear()
        self.rejections.clear()

    def _concerns_us(self, position: Position) -> bool:
        """True within this epoch; positions of an older epoch are ignored."""
        if position.epoch != self._epoch:
            return False
        if position.offset > self._window.sent:
            raise InvalidValue("position", str(position), "belong to an event that was received")
        return True
