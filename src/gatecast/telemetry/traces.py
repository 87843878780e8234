"""The hops of an event as spans of OpenTelemetry: commit or append, pick up, send, confirm, apply.

Off unless a collector is configured; then nothing of this costs more than a look at a variable. A change is traced when
its event carries a W3C `traceparent`; its spans are children of that one. Work for many events at once, of many traces,
is a span of its own that is linked to each of them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from gatecast.extras import ExtraMissing
from gatecast.version import __version__

#: Events of one connection that are on their way and traced; of further ones the later hops are left out.
_MOST_OPEN = 1_024

#: Links of one span; OpenTelemetry drops those after the first 128.
_MOST_LINKS = 128

#: How long the collector may take to accept spans, in seconds.
_TIME_LIMIT = 2.0


class Traced(Protocol):
    """The event of a span."""

    @property
    def gateway_id(self) -> str:
        """The gateway that it is for."""

    @property
    def type(self) -> str:
        """Its type."""

    @property
    def event_id(self) -> object:
        """Its id."""

    @property
    def trace_parent(self) -> str | None:
        """The W3C `traceparent` of its change, if that is traced."""


class _Spans:
    """Where spans go; nowhere unless tracing is on."""

    tracer: Any = None


def is_on() -> bool:
    """Whether spans are wanted."""
    return _Spans.tracer is not None


def use_provider(provider: Any) -> None:  # noqa: ANN401 - OpenTelemetry is optional
    """Give spans to a tracer provider of your own program; None: to none."""
    _Spans.tracer = None if provider is None else provider.get_tracer("gatecast", __version__)


@contextmanager
def sending(collector: str, pod_id: str) -> Iterator[None]:
    """Send spans to this OTLP endpoint (HTTP) while the block runs; nothing where it is empty.

    Raises:
        ExtraMissing: OpenTelemetry is not installed.
    """
    if not collector:
        yield
        return
    provider = _provider(collector, pod_id)
    use_provider(provider)
    try:
        yield
    finally:
        use_provider(None)
        provider.shutdown()


def _provider(collector: str, pod_id: str) -> Any:  # noqa: ANN401 - OpenTelemetry is optional
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - optional
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - optional
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - optional
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - optional
    except ImportError:
        raise ExtraMissing("traces", ["opentelemetry"]) from None
    names = {"service.name": "gatecast", "service.version": __version__, "service.instance.id": pod_id}
    provider = TracerProvider(resource=Resource.create(names))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(collector, timeout=_TIME_LIMIT)))
    return provider


# --- spans ------------------------------------------------------------------------------------------------------------


_UNTIMED = nullcontext()

#: The name of a hop as an action.
_NAMES = {"picked-up": "pick up", "sent": "send", "confirmed": "confirm", "applied": "apply"}


def timed(name: str, events: Sequence[Traced]) -> AbstractContextManager[None]:
    """Tell of each traced event how long the block took, if it did not raise."""
    return _timed(name, events) if is_on() else _UNTIMED


@contextmanager
def _timed(name: str, events: Sequence[Traced]) -> Iterator[None]:
    began = time.time()
    yield
    ended = time.time()
    for event in events:
        _tell(name, event, began, ended)


def told_together(name: str, events: Iterable[Traced], began: float) -> None:
    """Tell of work on many events that began then and has ended now: one span, linked to the trace of each event."""
    if not is_on():
        return
    from opentelemetry.context import Context  # noqa: PLC0415 - optional, and there where spans are on
    from opentelemetry.trace import Link, get_current_span  # noqa: PLC0415 - as above

    parents = {event.trace_parent: None for event in events if event.trace_parent is not None}
    links = [Link(get_current_span(_parent(parent)).get_span_context()) for parent in parents]
    if links:
        # Not a part of any one trace, also not of the one in which this process happens to be.
        span = _Spans.tracer.start_span(
            f"gatecast {name}", Context(), links=links[:_MOST_LINKS], start_time=_nanoseconds(began)
        )
        span.end(_nanoseconds(max(began, time.time())))


@dataclass(slots=True)
class _Open:
    event: Traced
    #: When it passed its last hop, in seconds since 1970.
    since: float


class EventTraces:
    """The traced events of one connection that are on their way."""

    def __init__(self) -> None:
        #: By offset.
        self.open: OrderedDict[int, _Open] = OrderedDict()
        #: Confirmed events, until that is stored; at most as many as a span has links.
        self._confirmed: list[Traced] = []

    def begin(self, offset: int, event: Traced, recorded_at: float) -> None:
        """Follow an event that was recorded then, if it is traced."""
        if event.trace_parent is not None and is_on():
            self.open[offset] = _Open(event, recorded_at)
            if len(self.open) > _MOST_OPEN:
                self.open.popitem(last=False)

    def passed(self, hop: str, after: int, through: int, now: float) -> None:
        """Tell of the events from one offset to another that they passed a hop now."""
        for offset in [each for each in self.open if after < each <= through]:
            found = self.open[offset]
            _tell(_NAMES[hop], found.event, found.since, now)
            found.since = max(now, found.since)
            if hop == "confirmed":
                self._confirmed.append(found.event)
                del self._confirmed[:-_MOST_LINKS]

    def take_confirmed(self) -> Sequence[Traced]:
        """The events that were confirmed since this was last asked."""
        taken = tuple(self._confirmed)
        self._confirmed.clear()
        return taken


def _tell(name: str, event: Traced, began: float, ended: float) -> None:
    if event.trace_parent is None or not is_on():
        return
    parent = _parent(event.trace_parent)
    attributes = {
        "gatecast.gateway": event.gateway_id,
        "gatecast.event": str(event.event_id),
        "gatecast.type": event.type,
    }
    span = _Spans.tracer.start_span(f"gatecast {name}", parent, attributes=attributes, start_time=_nanoseconds(began))
    # Clocks that differ a little make no span that ends before it begins.
    span.end(_nanoseconds(max(began, ended)))


def _parent(trace_parent: str) -> Any:  # noqa: ANN401 - OpenTelemetry is optional
    """The context in which what belongs to this `traceparent` happens."""
    from opentelemetry.context import Context  # noqa: PLC0415 - optional, and there where spans are on
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 - as above

    return TraceContextTextMapPropagator().extract({"traceparent": trace_parent}, Context())


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
