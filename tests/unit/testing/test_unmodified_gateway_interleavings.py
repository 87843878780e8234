"""The simulated gateway reaches the interleavings and later stages of gateway-protocol.md section 6."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.testing.clock import HandMovedClock
from gatecast.testing.doubles.scripted_control_plane import Answer, Request
from gatecast.testing.doubles.scripted_installation import UPSTREAM, Wire, document, wire, zipped
from gatecast.testing.unmodified_gateway import (
    DEPLOYED,
    DrawnOrder,
    Gates,
    ScriptedOrder,
)

T1, T2, T3 = "2026-01-02T03:04:05.440Z", "2026-01-02T03:04:06.000Z", "2026-01-02T03:04:07.123Z"
OLD, NEW = "a" * 64, "b" * 64

PROVIDER = document("LlmProvider", "demo")
PROXY = document("LlmProxy", "proxy", provider={"id": "demo"})

#: A pool of two servers: a gateway stores it, and can never serve it.
POOL = [{"name": "pool", "upstreams": [{"url": "http://a.example.test"}, {"url": "http://b.example.test"}]}]
UNSERVABLE = document("LlmProvider", "demo", upstream={"ref": "pool"}, upstreamDefinitions=POOL)

#: Steps of the start-up synchronization that store, in their order.
LIST = ("list stores p-1", "list stores x-1")

#: Steps of the proxy's event, in their order.
EVENT = ("event llmproxy.deployed x-1", "store x-1", "handled llmproxy.deployed x-1")


def listed_key(sha256: str, updated_at: str, *, artifact_id: str = "p-1") -> dict[str, object]:
    """An entry of a list of keys."""
    return {
        "uuid": "k-1",
        "name": "my-key",
        "maskedApiKey": "***",
        "apiKeyHashes": {"sha256": sha256},
        "artifactUuid": artifact_id,
        "status": "active",
        "createdAt": T1,
        "updatedAt": updated_at,
    }


async def rotate(w: Wire, sha256: str, updated_at: str) -> None:
    """Send `apikey.updated` for the provider's key."""
    hashes = json.dumps({"sha256": sha256})
    await w.send("apikey.updated", apiId="p-1", keyName="my-key", apiKeyHashes=hashes, updatedAt=updated_at)


async def deploy(w: Wire, performed_at: str = T1) -> None:
    """Send `llmprovider.deployed`."""
    await w.send("llmprovider.deployed", providerId="p-1", deploymentId="d-1", performedAt=performed_at)


def serve(w: Wire, provider: str = PROVIDER) -> None:
    """Let both documents be downloaded."""
    w.plane.answer("GET", "/llm-providers/p-1", Answer(body=zipped(provider)))
    w.plane.answer("GET", "/llm-proxies/x-1", Answer(body=zipped(PROXY)))


def list_both(w: Wire) -> None:
    """List the provider and the proxy."""
    w.plane.deploy("LlmProvider", "p-1", "d-1")
    w.plane.deploy("LlmProxy", "x-1", "d-2")
    w.plane.documents |= {"d-1": PROVIDER, "d-2": PROXY}


def keys(w: Wire) -> dict[str, tuple[str, str]]:
    """Hash and id of each key, by name."""
    return {name: (key.sha256, key.uuid) for (_, name), key in w.gateway.api_keys.items()}


# --- events beside the start-up synchronization ---------------------------------------------------------------------


async def statuses_when(order: Sequence[str]) -> list[str]:
    """What a proxy's event is acknowledged with when the steps have this order; the list deploys it in any case."""
    async with wire() as w:
        serve(w)
        list_both(w)
        schedule = ScriptedOrder(order)
        w.gateway.schedule_steps(schedule)
        await w.greet()
        await w.post("llmproxy.deployed", proxyId="x-1", deploymentId="d-2", performedAt=T1)
        await w.gateway.wait_until(lambda: w.gateway.records.reconciliations == w.gateway.records.handled == 1)
        assert not schedule.ahead
        assert [step for step in w.gateway.records.steps if step in order] == list(order)
        assert {artifact.state for artifact in w.gateway.running.values()} == {DEPLOYED}
        assert len(w.gateway.running) == 2
        return w.statuses


async def test_an_event_before_its_provider_is_stored_fails_and_the_list_deploys_it_a_moment_later() -> None:
    assert await statuses_when((EVENT[0], EVENT[2], *LIST)) == ["failed"]


async def test_an_event_after_the_list_is_stale_and_not_acknowledged() -> None:
    assert await statuses_when((*LIST, *EVENT)) == []


async def test_an_event_between_provider_and_proxy_succeeds() -> None:
    assert await statuses_when((LIST[0], *EVENT, LIST[1])) == ["success"]


@settings(max_examples=12, derandomize=True)
@given(st.sets(st.integers(min_value=0, max_value=3), min_size=2, max_size=2))
def test_every_drawn_order_of_list_and_event_can_be_replayed(places: set[int]) -> None:
    """Two steps of the list and two of the event, in each order that keeps the order of either."""
    listing, event = iter(LIST), iter((EVENT[0], EVENT[2]))
    order = [next(listing) if place in places else next(event) for place in range(4)]
    first = asyncio.run(statuses_when(order))
    assert asyncio.run(statuses_when(order)) == first
    expected = ["failed"] if order[1] == EVENT[2] else [] if order[2] == EVENT[0] else None
    assert expected is None or first == expected


async def test_a_recorded_order_repeats_the_run() -> None:
    """What runs beside the synchronization apart: it may end after it."""
    recorded: list[list[str]] = []
    for script in (None, 0):
        async with wire() as w:
            list_both(w)
            if script is not None:
                w.gateway.schedule_steps(ScriptedOrder(recorded[script]))
            await w.connect()
            recorded.append([step for step in w.gateway.records.steps if not step.endswith(("manifest", "artifacts"))])
    assert recorded[0] == recorded[1]
    assert recorded[0][:2] == ["GET /secrets", "answered GET /secrets"]


async def test_drawn_pauses_repeat_with_their_seed() -> None:
    clocks = [HandMovedClock() for _ in range(2)]
    for clock in clocks:
        order = DrawnOrder(clock, random.Random(7), pauses=(0.0, 1.0))  # noqa: S311 - repeats, guards nothing
        for step in range(5):
            task = asyncio.create_task(order(f"step {step}"))
            await clock.until_asleep(step + 1)
            await clock.advance(1.0)
            await task
    assert clocks[0].pauses == clocks[1].pauses
    assert set(clocks[0].pauses) == {0.0, 1.0}


async def test_a_held_step_lets_others_pass() -> None:
    async with wire() as w:
        serve(w)
        gates = Gates()
        w.gateway.schedule_steps(gates)
        async with gates.held("GET /llm-proxies/api-keys") as reached:
            await w.greet()
            await reached.wait()
            await deploy(w)
            assert (w.statuses, w.gateway.records.reconciliations) == (["success"], 0)
        await w.gateway.wait_until(lambda: w.gateway.records.reconciliations == 1)


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_a_key_that_was_rotated_while_the_gateway_was_away_is_lost() -> None:
    """Nobody but the next connection brings it back.

    1 the deploy event creates the artifact, 2 the key's event creates the key under an id of the gateway's own,
    3 the list, which is not newer, does not replace it, 4 the clean-up deletes it.
    """
    async with wire() as w:
        serve(w)
        w.plane.answer("GET", "/llm-providers/api-keys", Answer(body=[listed_key(NEW, T2)]))
        gates = Gates()
        w.gateway.schedule_steps(gates)
        async with gates.held("GET /llm-providers/api-keys") as reached:
            await w.greet()
            await reached.wait()
            await deploy(w)
            await rotate(w, NEW, T2)
            sha256, own_id = keys(w)["my-key"]
            assert (sha256, own_id != "k-1") == (NEW, True)
        await w.gateway.wait_until(lambda: w.gateway.records.reconciliations == 1)
        assert keys(w) == {}
        await w.reconnect()
        assert keys(w) == {"my-key": (NEW, "k-1")}


async def test_a_listed_key_that_is_newer_replaces_one_of_the_gateways_own_id() -> None:
    async with wire() as w:
        serve(w)
        w.plane.answer("GET", "/llm-providers/api-keys", Answer(body=[listed_key(NEW, T3)]))
        gates = Gates()
        w.gateway.schedule_steps(gates)
        async with gates.held("GET /llm-providers/api-keys") as reached:
            await w.greet()
            await reached.wait()
            await deploy(w)
            await rotate(w, NEW, T2)
        await w.gateway.wait_until(lambda: w.gateway.records.reconciliations == 1)
        assert keys(w) == {"my-key": (NEW, "k-1")}


async def test_an_event_between_the_list_of_keys_and_its_clean_up_is_deleted_with_the_rest() -> None:
    async with wire() as w:
        serve(w)
        w.plane.answer("GET", "/llm-providers/api-keys", Answer(body=[]))
        gates = Gates()
        w.gateway.schedule_steps(gates)
        async with gates.held("clean up /llm-providers/api-keys") as reached:
            await w.greet()
            await reached.wait()
            await deploy(w)
            await rotate(w, NEW, T2)
            assert "my-key" in keys(w)
        await w.gateway.wait_until(lambda: w.gateway.records.reconciliations == 1)
        assert keys(w) == {}


async def test_keys_of_an_unknown_artifact_are_stored_and_its_events_are_dropped() -> None:
    """So a revoked key lives on: it opens as soon as the artifact appears."""
    async with wire() as w:
        serve(w)
        w.plane.answer("GET", "/llm-providers/api-keys", Answer(body=[listed_key(OLD, T1)]))
        await w.connect()
        assert keys(w) == {"my-key": (OLD, "k-1")}
        await w.send("apikey.revoked", apiId="p-1", keyName="my-key")
        await rotate(w, NEW, T2)
        await deploy(w)
        [key] = w.gateway.api_keys.values()
        assert (key.status, key.sha256) == ("active", OLD)
        assert sum("the artifact is not here" in line for line in w.gateway.records.log) == 2


# --- what is transformed later --------------------------------------------------------------------------------------


async def test_what_cannot_be_transformed_is_acknowledged_and_never_served_and_the_process_ends_at_its_next_start() -> (
    None
):
    async with wire() as w:
        serve(w, UNSERVABLE)
        await w.connect()
        await deploy(w)
        assert w.statuses == ["success"]
        assert (list(w.gateway.artifacts), list(w.gateway.running)) == (["p-1"], [])
        for _ in range(2):
            await w.gateway.restart()
            await w.gateway.wait_until(lambda: bool(w.gateway.start_failed))
            assert "failed to transform startup config" in w.gateway.start_failed
            assert not w.gateway.connected
        assert w.gateway.connections_made == 1
        await w.gateway.restart(with_data=False)
        await w.connect()
        assert w.gateway.start_failed == ""


async def test_a_gateway_that_may_skip_what_is_invalid_starts() -> None:
    async with wire(skip_invalid_deployments_on_startup=True) as w:
        serve(w, UNSERVABLE)
        await w.connect()
        await deploy(w)
        w.plane.existing.add("p-1")
        await w.restart()
        assert (list(w.gateway.artifacts), list(w.gateway.running)) == (["p-1"], [])


async def test_a_version_that_cannot_be_transformed_leaves_the_one_before_running() -> None:
    async with wire() as w:
        serve(w)
        await w.connect()
        await deploy(w)
        serve(w, UNSERVABLE)
        await deploy(w, T2)
        assert w.statuses == ["success", "success"]
        assert w.gateway.running["p-1"].performed_at < w.gateway.artifacts["p-1"].performed_at


@pytest.mark.parametrize(
    ("kind", "specification", "served"),
    [
        ("LlmProvider", {"upstream": {"ref": "pool"}, "upstreamDefinitions": POOL}, False),
        ("LlmProvider", {"upstreamDefinitions": POOL}, True),
        ("Mcp", {"upstream": {"ref": "pool"}, "upstreamDefinitions": POOL}, False),
        ("RestApi", {"upstream": {"main": {"ref": "pool"}}, "upstreamDefinitions": POOL}, False),
        ("RestApi", {"upstream": {"main": UPSTREAM, "sandbox": {"ref": "pool"}}, "upstreamDefinitions": POOL}, False),
        ("RestApi", {"vhosts": {"main": "a.test;b.test", "sandbox": "b.test"}}, True),
        (
            "RestApi",
            {
                "upstream": {"main": UPSTREAM, "sandbox": UPSTREAM},
                "vhosts": {"main": "a.test;b.test", "sandbox": "b.test"},
            },
            False,
        ),
        (
            "RestApi",
            {
                "upstream": {"main": UPSTREAM, "sandbox": UPSTREAM},
                "vhosts": {"main": "a.test", "sandbox": "_gateway_default_"},
            },
            True,
        ),
        (
            "RestApi",
            {"upstream": {"main": UPSTREAM, "sandbox": UPSTREAM}, "vhosts": {"main": "sandbox-*"}},
            False,
        ),
        ("RestApi", {"upstream": {"main": UPSTREAM, "sandbox": UPSTREAM}}, True),
        ("RestApi", {"vhosts": {"main": "sandbox-*"}}, False),
    ],
)
async def test_the_causes_that_were_found(kind: str, specification: dict[str, object], *, served: bool) -> None:
    async with wire() as w:
        w.plane.deploy(kind, "a-1", "d-1")
        w.plane.documents["d-1"] = document(kind, "demo", **specification)
        await w.connect()
        assert list(w.gateway.artifacts) == ["a-1"]
        assert list(w.gateway.running) == (["a-1"] if served else [])


# --- data that is lost ----------------------------------------------------------------------------------------------


async def test_a_restart_without_data_begins_with_nothing_and_is_given_what_is_listed() -> None:
    async with wire() as w:
        list_both(w)
        await w.connect()
        w.plane.deployments = w.plane.deployments[:1]
        await w.gateway.restart(with_data=False)
        assert dict(w.gateway.artifacts) == {}
        await w.connect()
        assert list(w.gateway.artifacts) == list(w.gateway.running) == ["p-1"]


async def test_a_process_that_loses_its_data_serves_on_and_does_not_ask_for_deployments_again() -> None:
    async with wire() as w:
        serve(w)
        list_both(w)
        await w.connect()
        await w.send(
            "application.updated",
            applicationId="a",
            applicationUuid="a-1",
            applicationName="a",
            applicationType="t",
            mappings=[],
        )
        assert list(w.gateway.applications) == ["a-1"]
        templates = set(w.gateway.own)
        w.gateway.lose_data()
        await w.reconnect()
        assert (len(w.gateway.artifacts), len(w.gateway.running), len(w.gateway.applications)) == (0, 2, 0)
        assert w.plane.calls().count("GET /deployments") == 1
        await w.send("llmproxy.deployed", proxyId="x-1", deploymentId="d-2", performedAt=T2)
        assert w.statuses == ["failed"]
        # Its templates come with the next process, under ids of the new database.
        assert not w.gateway.own
        await w.gateway.restart()
        await w.connect()
        assert "openai" in {each.handle for each in w.gateway.own.values()}
        assert templates.isdisjoint(w.gateway.own)


async def test_what_is_deleted_by_hand_is_found_at_the_next_start_of_the_process() -> None:
    async with wire() as w:
        list_both(w)
        await w.connect()
        calls = len(w.plane.server.calls)
        w.gateway.delete_by_hand("x-1")
        assert list(w.gateway.running) == ["p-1"]
        await w.reconnect()
        assert list(w.gateway.artifacts) == ["p-1"]
        await w.restart()
        assert list(w.gateway.artifacts) == ["p-1", "x-1"]
        assert not any("exists" in call for call in w.plane.server.calls[calls:])


# --- replicas -------------------------------------------------------------------------------------------------------


async def test_the_replica_that_loses_the_race_for_an_insert_says_failed_though_the_artifact_is_deployed() -> None:
    async with wire() as w:
        serve(w)
        await w.connect()
        async with w.gateway.replica() as second:
            other = Wire(second, w.plane, w.clock)
            await other.connect()
            gates = Gates()
            second.schedule_steps(gates)
            async with gates.held("store p-1") as reached:
                deployment = {"providerId": "p-1", "deploymentId": "d-1", "performedAt": T1}
                await other.post("llmprovider.deployed", **deployment)
                await reached.wait()
                await deploy(w)
            await second.wait_until(lambda: second.records.handled == 1)
            assert (w.statuses, other.statuses) == (["success"], ["failed"])
            assert list(w.gateway.running) == list(second.running) == ["p-1"]
            await w.send("llmprovider.undeployed", providerId="p-1", deploymentId="d-1", performedAt=T2)
            assert second.running["p-1"].state != DEPLOYED


async def test_a_replica_that_comes_after_the_other_finds_the_event_stale() -> None:
    async with wire() as w:
        serve(w)
        await w.connect()
        async with w.gateway.replica() as second:
            other = Wire(second, w.plane, w.clock)
            await other.connect()
            await deploy(w)
            await deploy(other)
            assert (w.statuses, other.statuses) == (["success"], [])


# --- downloads ------------------------------------------------------------------------------------------------------


async def test_a_download_that_takes_too_long_is_acknowledged_as_failed() -> None:
    waits = asyncio.Event()

    async def never(_request: Request) -> Answer:
        await waits.wait()
        return Answer()

    async with wire(call_time_limit=0.05) as w:
        await w.connect()
        w.plane.answer("GET", "/llm-providers/p-1", never)
        await deploy(w)
        waits.set()
        assert w.statuses == ["failed"]


async def test_a_provider_that_goes_while_its_proxy_is_being_stored_makes_the_proxy_fail() -> None:
    async with wire() as w:
        serve(w)
        await w.connect()
        await deploy(w)
        gates = Gates()
        w.gateway.schedule_steps(gates)
        async with gates.held("store x-1") as reached:
            await w.post("llmproxy.deployed", proxyId="x-1", deploymentId="d-2", performedAt=T1)
            await reached.wait()
            w.gateway.delete_by_hand("p-1")
        await w.gateway.wait_until(lambda: w.gateway.records.handled == 2)
        assert w.statuses == ["success", "failed"]
