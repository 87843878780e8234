from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, generate_latest

from gatecast.telemetry.tally import Tally


def test_it_looks_like_a_counter_of_the_library_and_never_falls() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally, counter = Tally("events", "Seen.", registry=ours), Counter("events", "Seen.", registry=theirs)
    tally.add(3)
    tally.add(-5)
    counter.inc(3)
    assert ours.get_sample_value("events_total") == 3
    shown = [text.decode().splitlines() for text in (generate_latest(ours), generate_latest(theirs))]
    created = "events_created "
    assert [line for line in shown[0] if not line.startswith(created)] == [
        line for line in shown[1] if not line.startswith(created)
    ]
