"""What was measured, as values, as JSON, and as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gatecast.cli.output import print_json, print_table, screen

_DESIGNS = """
usual   BEGIN, insert the gateway if absent, insert the event, raise the version, COMMIT; wakes nobody
single  one statement for each event, on a connection of its own; wakes nobody
waking  the same with one caller, and wakes every pod, as the hub does
hub     EventHub.publish: what queued while the last statement ran, in one statement; wakes every pod
pgbench the inserted event and the raised version of `usual` as one statement without Python: what this server can do"""


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the ordered values do not exceed; 0 without values."""
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishFigures:
    """How fast one design published under one load."""

    design: str
    #: How many gateways the events went to.
    gateways: int
    #: How many callers published at the same time, each one event after the other.
    publishers: int
    events_per_second: float
    p50_ms: float
    p99_ms: float
    #: Events per second against the baseline under the same load.
    ratio: float
    #: How far the rounds lie apart, as a share of the median.
    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyFigures:
    """How long events took to reach a subscriber in another hub."""

    #: `wake-ups` or `polling`.
    mode: str
    events: int
    #: From the return of `publish`, which is the commit, to the subscriber; negative: it had the event before that.
    p50_ms: float
    p95_ms: float
    p99_ms: float
    #: From the call of `publish` to the subscriber, the commit included.
    whole_p50_ms: float
    #: The whole median against the one of the first mode.
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainFigures:
    """How fast one gateway's backlog came."""

    #: `reading` (the storage alone) or `delivery` (through a hub, to a subscriber that acknowledges).
    mode: str
    events: int
    events_per_second: float
    #: Events per second against reading alone.
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFigures:
    """What idle connections cost a pod."""

    tls: bool
    connections: int
    #: Growth of the pod's resident memory, in KiB.
    kib_per_connection: float
    connects_per_second: float


def report_publish(database: str, figures: Sequence[PublishFigures], *, as_json: bool) -> None:
    """Print how fast each design published."""
    if as_json:
        print_json(_document(database, figures))
        return
    screen.print(f"[bold]Publishing to {database}[/bold]: callers that each publish one event after the other")
    print_table(
        [
            {
                "gateways": f"{each.gateways:,}" if each.gateways > 1 else "one, hot",
                "publishers": each.publishers,
                "design": each.design,
                "rate": f"{each.events_per_second:,.0f}",
                "spread": f"±{each.spread * 50:.0f} %",
                "p50": f"{each.p50_ms:.2f}",
                "p99": f"{each.p99_ms:.2f}",
                "ratio": f"{each.ratio:.1f}x",
            }
            for each in figures
        ],
        {
            "gateways": "GATEWAYS",
            "publishers": "PUBLISHERS",
            "design": "DESIGN",
            "rate": "EVENTS/S",
            "spread": "SPREAD",
            "p50": "P50 MS",
            "p99": "P99 MS",
            "ratio": "TO USUAL",
        },
        empty="nothing was measured",
    )
    screen.print(_DESIGNS)


def report_latency(database: str, figures: Sequence[LatencyFigures], *, as_json: bool) -> None:
    """Print how long events took to a subscriber in another hub."""
    if as_json:
        print_json(_document(database, figures))
        return
    screen.print(f"[bold]Commit in one hub to subscriber in another[/bold], on {database}, in milliseconds\n")
    print_table(
        [
            {
                "mode": each.mode,
                "events": each.events,
                "p50": f"{each.p50_ms:.2f}",
                "p95": f"{each.p95_ms:.2f}",
                "p99": f"{each.p99_ms:.2f}",
                "whole": f"{each.whole_p50_ms:.2f}",
                "ratio": f"{each.ratio:.1f}x",
            }
            for each in figures
        ],
        {
            "mode": "WITH",
            "events": "EVENTS",
            "p50": "P50",
            "p95": "P95",
            "p99": "P99",
            "whole": "P50 FROM CALL",
            "ratio": "TO WAKE-UPS",
        },
        empty="nothing was measured",
    )


def report_drain(database: str, figures: Sequence[DrainFigures], *, as_json: bool) -> None:
    """Print how fast a backlog came."""
    if as_json:
        print_json(_document(database, figures))
        return
    screen.print(f"[bold]The backlog of one gateway[/bold], on {database}\n")
    print_table(
        [
            {
                "mode": each.mode,
                "events": f"{each.events:,}",
                "rate": f"{each.events_per_second:,.0f}",
                "ratio": f"{each.ratio:.2f}x",
            }
            for each in figures
        ],
        {"mode": "BY", "events": "EVENTS", "rate": "EVENTS/S", "ratio": "TO READING"},
        empty="nothing was measured",
    )


def report_memory(figures: Sequence[MemoryFigures], *, as_json: bool) -> None:
    """Print what idle connections cost."""
    if as_json:
        print_json({"figures": [asdict(each) for each in figures]})
        return
    screen.print("[bold]Idle gateway connections to one pod[/bold]")
    print_table(
        [
            {
                "tls": each.tls,
                "connections": f"{each.connections:,}",
                "memory": f"{each.kib_per_connection:.1f}",
                "rate": f"{each.connects_per_second:,.0f}",
            }
            for each in figures
        ],
        {"tls": "TLS", "connections": "CONNECTIONS", "memory": "KIB EACH", "rate": "CONNECTS/S"},
        empty="nothing was measured",
    )


def _document(
    database: str, figures: Sequence[PublishFigures] | Sequence[LatencyFigures] | Sequence[DrainFigures]
) -> dict[str, Any]:
    return {"database": database, "figures": [asdict(each) for each in figures]}
