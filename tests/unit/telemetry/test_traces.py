"""A traced change is one trace, whose spans follow each other from the publish to the confirmation."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gatecast import Action, Event, EventHub, publish_sync
from gatecast.events.event import change_trace
from gatecast.telemetry import traces
from gatecast.telemetry.requests import follow_trace
from gatecast.telemetry.traces import EventTraces

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_PARENT = f"00-{_TRACE}-b7ad6b7169203331-01"


def _event(**fields: Any) -> Event:  # noqa: ANN401 - those of an event
    return Event(
        gateway_id="g", type="route.changed", action=Action.UPDATE, entity_type="Route", entity_id="r", **fields
    )


@pytest.fixture
def collector() -> Iterator[InMemorySpanExporter]:
    """What was told."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces.use_provider(provider)
    yield exporter
    traces.use_provider(None)


async def test_one_change_is_one_trace_whose_hops_add_up(tmp_path: Path, collector: InMemorySpanExporter) -> None:
    async with EventHub.open(f"sqlite:///{tmp_path / 'gatecast.db'}") as hub:
        await hub.register_gateway("g")
        await hub.publish([_event(trace_parent=_PARENT), _event()])
        async with hub.subscribe("g") as subscription:
            async for event in subscription:
                subscription.acknowledge(event)
                if event.offset == 2:
                    break
    spans = {span.name: span for span in collector.get_finished_spans() if span.parent is not None}
    assert list(spans) == ["gatecast commit", "gatecast pick up", "gatecast send", "gatecast confirm"]
    for span in spans.values():
        assert f"{span.context.trace_id:032x}" == _TRACE
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
        assert (span.attributes or {})["gatecast.gateway"] == "g"
        assert (span.end_time or 0) >= (span.start_time or 0) > 0
    _, *hops = spans.values()
    for before, following in pairwise(hops):
        assert following.start_time == before.end_time


async def test_what_is_done_for_many_events_at_once_is_linked_to_the_trace_of_each(
    tmp_path: Path, collector: InMemorySpanExporter
) -> None:
    """It belongs to none of them, and a statement that stores or reads nothing that is traced is not told."""
    others = [_PARENT.replace(_TRACE, f"{number:032x}") for number in (7, 8)]
    async with EventHub.open(f"sqlite:///{tmp_path / 'gatecast.db'}") as hub:
        await hub.register_gateway("g")
        await hub.publish(_event())
        await hub.publish([_event(trace_parent=parent) for parent in (*others, others[0])])
        async with hub.subscribe("g") as subscription:
            for _ in range(4):
                subscription.acknowledge(await anext(subscription))
            await hub.delivery.recorder.flush()
    together = {span.name: span for span in collector.get_finished_spans() if span.parent is None}
    assert set(together) == {"gatecast store", "gatecast read", "gatecast store positions"}
    for span in together.values():
        assert [link.context.trace_id for link in span.links] == [7, 8]
        assert span.context.trace_id not in (7, 8)
        assert (span.end_time or 0) >= (span.start_time or 0) > 0


async def test_publishing_in_the_callers_transaction_is_an_append(
    tmp_path: Path, collector: InMemorySpanExporter
) -> None:
    """When that commits only the caller knows; the next span begins with the record."""
    path = tmp_path / "gatecast.db"
    async with EventHub.open(f"sqlite:///{path}") as hub:
        await hub.register_gateway("g")
        async with hub.storage.database.transaction() as transaction:
            await hub.publish(_event(trace_parent=_PARENT), transaction)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            publish_sync(_event(trace_parent=_PARENT), connection)
            publish_sync(_event(), connection)
            connection.execute("COMMIT")
    spans = collector.get_finished_spans()
    assert [span.name for span in spans] == ["gatecast append"] * 2
    assert {f"{span.context.trace_id:032x}" for span in spans} == {_TRACE}


def test_a_span_has_no_more_links_than_are_kept(collector: InMemorySpanExporter) -> None:
    parents = [_PARENT.replace(_TRACE, f"{number:032x}") for number in range(1, 200)]
    traces.told_together("store", [_event(trace_parent=parent) for parent in parents], 1.0)
    [span] = collector.get_finished_spans()
    assert len(span.links) == 128


def test_a_publish_that_fails_is_no_commit(collector: InMemorySpanExporter) -> None:
    with pytest.raises(RuntimeError), traces.timed("commit", [_event(trace_parent=_PARENT)]):
        raise RuntimeError
    assert collector.get_finished_spans() == ()


def test_without_a_collector_nothing_is_followed() -> None:
    followed = EventTraces()
    followed.begin(1, _event(trace_parent=_PARENT), 0.0)
    followed.passed("sent", 0, 1, 1.0)
    assert not traces.is_on()
    assert followed.open == {}


def test_of_too_many_the_oldest_are_not_followed(collector: InMemorySpanExporter) -> None:
    followed = EventTraces()
    for offset in range(1, 1_030):
        followed.begin(offset, _event(trace_parent=_PARENT), 0.0)
    followed.passed("sent", 0, 2_000, 1.0)
    assert len(collector.get_finished_spans()) == 1_024


@pytest.mark.parametrize("header", [None, "", "nonsense", f"ff-{_TRACE}-b7ad6b7169203331-01", "00-0-0-01"])
async def test_what_is_no_traceparent_is_ignored(header: str | None) -> None:
    """Also after a request of the same task that was traced."""
    follow_trace(_PARENT)
    follow_trace(header)
    assert change_trace.get() is None
    assert _event().trace_parent is None


async def test_events_of_a_traced_request_carry_its_trace() -> None:
    follow_trace(_PARENT)
    assert _event().trace_parent == _PARENT
    other = _PARENT.replace("01", "00")
    assert _event(trace_parent=other).trace_parent == other


class _Collector(BaseHTTPRequestHandler):
    received: list[bytes]

    def do_POST(self) -> None:
        """Spans."""
        self.server.received.append(self.rfile.read(int(self.headers["Content-Length"])))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_spans_are_sent_to_the_collector_before_the_pod_ends() -> None:
    with HTTPServer(("127.0.0.1", 0), _Collector) as server:
        server.received = []  # type: ignore[attr-defined]
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        sending = traces.sending(f"http://127.0.0.1:{server.server_port}/v1/traces", "pod-1")
        with sending, traces.timed("commit", [_event(trace_parent=_PARENT)]):
            pass
        server.shutdown()
        serving.join()
        [sent] = server.received  # type: ignore[attr-defined]
    assert b"gatecast commit" in sent
    assert b"pod-1" in sent
    assert not traces.is_on()
    with traces.sending("", "pod-1"):
        assert not traces.is_on()
