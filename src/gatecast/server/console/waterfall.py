"""The way of one event as a picture: a row for each connection, waiting and working in different tones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from gatecast.server.admin_api.event_hops import DeliveryView, EventDetail
from gatecast.server.admin_api.models import OutcomeView
from gatecast.server.console.rendering import age

#: Width of the picture, in its own units; the browser stretches it.
WIDTH = 1000.0

#: No stretch of time is drawn narrower than this: what takes a millisecond after a day of waiting is seen as well.
_LEAST = 14.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happened to an event."""

    #: What happened, in words.
    name: str
    at: datetime
    #: Up to this many seconds before or after that.
    within: float
    #: Since the event was recorded.
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A stretch of time in a row."""

    x: float
    width: float
    #: `waiting`, `working`, `done` or `failed`.
    tone: str
    #: The activity, and its duration.
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The way over one connection."""

    #: The replica, and its pod.
    replica: str
    pod: str
    steps: Sequence[Step]
    bars: Sequence[Bar]
    #: How it ended, or what it waits for.
    end: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """The whole picture."""

    lanes: Sequence[Lane]
    #: From the record of the event to the last thing that is shown.
    length: str


#: The activity before each step, whether that is waiting or working, and its text while it lasts.
_BEFORE = {
    "picked-up": ("waiting", "Waits for a pod that holds the gateway's connection"),
    "sent": ("waiting", "Waits for its turn on the connection"),
    "confirmed": ("working", "The gateway works on it"),
    "applied": ("done", "The gateway applies it"),
    "rejected": ("failed", "The gateway tries to apply it"),
    "skipped": ("failed", "Left out by an operator's decision"),
    "held": ("waiting", "Waits for a decision about its entity"),
    "released": ("waiting", "Waits to be published again"),
    "undeliverable": ("failed", "It cannot be delivered"),
}

#: The next step after each step that does not end the way.
_UNFINISHED = {"recorded": "picked-up", "picked-up": "sent", "sent": "confirmed", "held": "held"}

_NAMES = {"picked-up": "Picked up", "sent": "Sent", "confirmed": "Confirmed"}


@dataclass(frozen=True, slots=True)
class _Moment:
    what: str
    at: datetime
    within: float = 0.0


def waterfall(event: EventDetail, now: datetime) -> Waterfall:
    """The picture of an event's way until now."""
    ways = event.deliveries or [DeliveryView(replica="", connection_id=None, pod_id=None, hops=[])]
    said = {outcome.replica: outcome for outcome in event.outcomes}
    newest = {way.replica: way for way in ways}
    moments = [_moments(event, way, said.get(way.replica) if newest[way.replica] is way else None) for way in ways]
    open_ended = [
        event.state == "stored" and newest[way.replica] is way and lane[-1].what in _UNFINISHED
        for way, lane in zip(ways, moments, strict=True)
    ]
    shown = [each.at for lane in moments for each in lane] + ([now] if any(open_ended) else [])
    scale = _Scale(shown)
    return Waterfall(
        lanes=[
            _lane(event, way, lane, scale, until=now if unfinished else None)
            for way, lane, unfinished in zip(ways, moments, open_ended, strict=True)
        ],
        length=duration(max(shown) - min(shown)),
    )


def _moments(event: EventDetail, way: DeliveryView, outcome: OutcomeView | None) -> list[_Moment]:
    """The steps in order; despite small clock differences no step comes before its cause."""
    moments = [_Moment("recorded", event.recorded_at)]
    found = [_Moment(hop.hop, hop.at, hop.within) for hop in way.hops]
    if outcome is not None and outcome.recorded_at is not None:
        found.append(_Moment(outcome.kind, outcome.recorded_at))
    for each in found:
        moments.append(_Moment(each.what, max(each.at, moments[-1].at), each.within))
    return moments


class _Scale:
    """Time along the picture: proportional, except for stretches too short to see."""

    def __init__(self, moments: Iterable[datetime]) -> None:
        self._marks = sorted(set(moments))
        lengths = [(later - earlier).total_seconds() for earlier, later in pairwise(self._marks)]
        room = WIDTH - _LEAST * len(lengths)
        total = sum(lengths) or 1.0
        self._places = [0.0]
        for length in lengths:
            self._places.append(self._places[-1] + _LEAST + max(0.0, room) * length / total)

    def place(self, moment: datetime) -> float:
        return round(self._places[self._marks.index(moment)], 1)


def _lane(
    event: EventDetail, way: DeliveryView, moments: Sequence[_Moment], scale: _Scale, *, until: datetime | None
) -> Lane:
    bars = [_bar(scale, earlier.at, later.at, later.what) for earlier, later in pairwise(moments)]
    last = moments[-1]
    end = _ended(event, last)
    if until is not None and until > last.at:
        bars.append(_bar(scale, last.at, until, _next(last.what)))
        end = f"{_BEFORE[_next(last.what)][1]}, for {duration(until - last.at)} now"
    steps = [
        Step(
            name=_NAMES.get(each.what, each.what.capitalize()),
            at=each.at,
            within=each.within,
            after=duration(each.at - event.recorded_at),
        )
        for each in moments
    ]
    return Lane(replica=way.replica, pod=way.pod_id or "", steps=steps, bars=bars, end=end)


def _ended(event: EventDetail, last: _Moment) -> str:
    if last.what == "recorded":
        return f"{event.state.capitalize()}; the time is no longer known"
    return f"{_NAMES.get(last.what, last.what.capitalize())} after {duration(last.at - event.recorded_at)}"


def _next(what: str) -> str:
    """The step that the event waits for."""
    return _UNFINISHED[what]


def _bar(scale: _Scale, begin: datetime, end: datetime, what: str) -> Bar:
    tone, title = _BEFORE[what]
    x = scale.place(begin)
    return Bar(x=x, width=round(scale.place(end) - x, 1), tone=tone, title=f"{title}: {duration(end - begin)}")


def duration(length: timedelta) -> str:
    """A length of time as people read it: `0.4 ms`, `12 ms`, `3.1 s`, `4 min`."""
    seconds = length.total_seconds()
    if seconds >= 60:  # noqa: PLR2004 - a minute
        return age(seconds)
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004 - 10 ms


def now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)
