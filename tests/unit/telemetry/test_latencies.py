from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from gatecast.telemetry.latencies import Latencies


def test_many_observations_at_once_are_a_histogram_as_any() -> None:
    registry = CollectorRegistry()
    latencies = Latencies("way_seconds", "How long it took.", label="hop", buckets=(0.1, 1))
    registry.register(latencies)
    latencies.of("sent").observe(0.1, 3)
    latencies.of("sent").observe(0.5, 2)
    latencies.of("sent").observe(7.0, 1)
    latencies.of("confirmed").observe(-0.001, 1)
    latencies.of("applied")
    text = generate_latest(registry).decode()
    for line in (
        'way_seconds_bucket{hop="sent",le="0.1"} 3.0',
        'way_seconds_bucket{hop="sent",le="1.0"} 5.0',
        'way_seconds_bucket{hop="sent",le="+Inf"} 6.0',
        'way_seconds_count{hop="sent"} 6.0',
        'way_seconds_sum{hop="sent"} 8.3',
        'way_seconds_bucket{hop="confirmed",le="0.1"} 1.0',
        'way_seconds_sum{hop="confirmed"} 0.0',
    ):
        assert line in text
    assert "applied" not in text, "nothing was"
