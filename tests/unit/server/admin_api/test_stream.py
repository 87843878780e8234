"""`/api/v1/events/stream`: events as they are recorded."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import httpx
import pytest

from gatecast.errors import StatementFailed, StorageUnavailable
from gatecast.events import Action, Event
from gatecast.hub import EventHub
from gatecast.server.admin_api import AdminContext, create_admin_app, follower, outcome_watch, shared_looks, stream
from gatecast.server.admin_api.context import MAX_STREAMS
from gatecast.server.admin_api.fleet_watch import FleetWatch
from gatecast.server.admin_api.follower import Follower
from gatecast.server.admin_api.outcome_watch import OutcomeWatch
from gatecast.server.admin_api.stream_position import StreamPosition
from gatecast.server.console.pages import tail
from gatecast.server.fleet_metrics import SLOW_UNTIL
from gatecast.storage.contract import (
    DeliverySummary,
    GatewayStatus,
    Outcome,
    OutcomeKind,
    ReadRequest,
    ReadResult,
    TrimPolicy,
)
from gatecast.testing.contracts.backend import settled_marker
from gatecast.testing.eventually import PATIENCE

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_PATH = "/api/v1/events/stream"


async def _publish(context: AdminContext, gateway_id: str, count: int = 1) -> None:
    """Publish, and let what others do on the server end: a position behind the events shows none of them again."""
    await context.hub.publish(
        [
            Event(
                gateway_id=gateway_id,
                type="api.deployed",
                action=Action.CREATE,
                entity_type="Api",
                entity_id="a",
                data={"line": "one\ntwo\r\n\u2028"},
            )
            for _ in range(count)
        ]
    )
    await settled_marker(context.hub.engine.log)


def _messages(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Kind and data of each message."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def _shown(text: str) -> list[tuple[str, int]]:
    return [(data["gatewayId"], data["offset"]) for kind, data in _messages(text) if kind == "recorded"]


def _last_id(text: str) -> StreamPosition:
    ids = [line.removeprefix("id: ") for line in text.split("\n") if line.startswith("id: ")]
    position = StreamPosition.parse(ids[-1])
    assert position is not None
    return position


async def _news(one: Follower) -> str:
    """Everything that it finds now."""
    await one.look()
    portions = []
    while portion := await one.next_portion():
        portions.append(portion)
    return "".join(portions)


async def _follow(context: AdminContext, gateway: str = "", resumed: StreamPosition | None = None) -> Follower:
    return await Follower.begin(context, "default", gateway, resumed)


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_what_comes_from_now_on_is_shown_in_order(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        one, two = [await new_gateway(client, name) for name in ("one", "two")]
        await _publish(context, one)
        following = await _follow(context)
        assert await _news(following) == ""
        await _publish(context, one, 250)
        await _publish(context, two, 2)
        shown = _shown(await _news(following))
        assert [offset for name, offset in shown if name == one] == list(range(2, 252))
        assert [offset for name, offset in shown if name == two] == [1, 2]
        assert await _news(following) == ""


async def test_an_event_is_shown_whole(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """In one line, whatever its data holds."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        following = await _follow(context)
        await _publish(context, gateway_id)
        [(kind, data)] = _messages(await _news(following))
    assert kind == "recorded"
    assert data["data"] == {"line": "one\ntwo\r\n\u2028"}
    assert (data["type"], data["action"], data["entityType"], data["entityId"]) == (
        "api.deployed",
        "CREATE",
        "Api",
        "a",
    )


async def test_a_log_that_alone_cannot_be_read_is_told(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and again when it can be read; the others go on, and nothing of it is left out."""
    async with open_api() as (client, context):
        broken, sound = [await new_gateway(client, name) for name in ("broken", "sound")]
        following = await _follow(context)
        read, refusing = context.hub.storage.log.read, True

        async def refuse(requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
            if refusing and any(each.gateway_id == broken for each in requests):
                raise StatementFailed("it is damaged")
            return await read(requests)

        monkeypatch.setattr(context.hub.storage.log, "read", refuse)
        for each in (broken, sound):
            await _publish(context, each)
        first = await _news(following)
        told = [data for kind, data in _messages(first) if kind == "unreadable"]
        assert [(data["gatewayId"], "damaged" in data["reason"]) for data in told] == [(broken, True)]
        assert _shown(first) == [(sound, 1)]
        await _publish(context, sound)
        second = await _news(following)
        assert [kind for kind, _ in _messages(second)] == ["recorded"]
        refusing = False
        third = _messages(await _news(following))
        assert [kind for kind, _ in third] == ["unreadable", "recorded"]
        assert (third[0][1], third[1][1]["gatewayId"]) == ({"gatewayId": broken, "reason": None}, broken)


async def test_the_last_id_continues_without_a_gap(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Also for a gateway that was created in between."""
    async with open_api() as (client, context):
        one = await new_gateway(client, "one")
        following = await _follow(context)
        await _publish(context, one)
        position = _last_id(await _news(following))
        await _publish(context, one)
        two = await new_gateway(client, "two")
        await _publish(context, two)
        resumed = await _follow(context, resumed=position)
        assert sorted(_shown(await _news(resumed))) == sorted([(one, 2), (two, 1)])


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_while_another_publisher_is_about_to_commit_events_may_come_again_and_none_is_lost(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """No position passes it; on SQLite, where one writes at a time, nobody is about to commit."""
    async with open_api() as (client, context):
        one, two = [await new_gateway(client, name) for name in ("one", "two")]
        following = await _follow(context)
        async with context.hub.storage.database.transaction() as transaction:
            await context.hub.publish(_new_event(two), transaction)
            await context.hub.publish([_new_event(one)])
            text = await _news(following)
            assert _shown(text) == [(one, 1)]
        resumed = await _follow(context, resumed=_last_id(text))
        assert sorted(_shown(await _news(resumed))) == sorted([(one, 1), (two, 1)])
        assert _shown(await _news(following)) == [(two, 1)]


async def test_a_gateway_that_is_created_meanwhile_is_followed(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """From its first event on; one that is deleted is forgotten."""
    async with open_api() as (client, context):
        old = await new_gateway(client, "old")
        following = await _follow(context)
        new = await new_gateway(client, "new")
        await _publish(context, new, 2)
        first, second = await _news(following), await _news(following)
        assert _shown(first + second) == [(new, 1), (new, 2)]
        await _publish(context, old)
        await following.look()
        await client.delete(f"/api/v1/gateways/{old}")
        assert await _news(following) == ""
        await _publish(context, new)
        assert _shown(await _news(following)) == [(new, 3)]


async def test_s31_another_organizations_events_are_not_shown(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Not as they come, not by a forged position, not by naming the gateway."""
    async with open_api() as (client, context):
        own = await new_gateway(client)
        foreign = await new_gateway(client, headers={"Authorization": "Bearer other-token"})
        following = await _follow(context)
        await _publish(context, foreign)
        await _publish(context, own)
        assert _shown(await _news(following) + await _news(following)) == [(own, 1)]
        for name in (foreign, own, ""):
            position = replace(following.position, since=0, until=0, gateway=name, log_id=1)
            forged = await _follow(context, resumed=position)
            assert _shown(await _news(forged) + await _news(forged)) == [(own, 1)]
        named = await client.get(_PATH, params={"gateway": foreign})
        assert named.status_code == 404


async def test_one_gateway_can_be_followed_alone(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        one, two = [await new_gateway(client, name) for name in ("one", "two")]
        following = await _follow(context, f" {one} ")
        await _publish(context, two)
        await _publish(context, one)
        assert _shown(await _news(following) + await _news(following)) == [(one, 1)]


# --- what cannot be shown ---------------------------------------------------------------------------------------------


async def test_what_retention_has_removed_is_told(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Under an open stream, and between two."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        following = await _follow(context)
        position = following.position
        await _publish(context, gateway_id)
        assert _shown(await _news(following)) == [(gateway_id, 1)]
        await _publish(context, gateway_id, 4)
        policy = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(days=1), max_events=2)
        while await context.hub.storage.log.trim(policy):
            pass
        (kind, gap), *others = _messages(await _news(following))
        assert (kind, gap) == ("gap", {"reason": "retention", "gatewayId": gateway_id, "after": 1, "through": 3})
        assert [data["offset"] for _, data in others] == [4, 5]
        (kind, gap), *others = _messages(await _news(await _follow(context, resumed=position)))
        assert (kind, gap) == ("gap", {"reason": "retention", "gatewayId": gateway_id, "through": 3})
        assert [data["offset"] for _, data in others] == [4, 5]


async def test_a_position_that_nobody_can_go_on_from_is_told(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """One of an earlier release, and one that is ahead of the database."""
    old = base64.urlsafe_b64encode(zlib.compress(json.dumps({"epoch": str(uuid4()), "offsets": {}}).encode())).decode()
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        ahead = str(replace((await _follow(context)).position, since=2**59))
        for position in (old, ahead):
            async with _streaming(context, last_event_id=position) as received:
                assert await received.get() == "200"
                assert (await received.get()).startswith(": following")
                assert _messages(await _next(received, "gap")) == [("gap", {"reason": "position"})]
                await _publish(context, gateway_id)
                assert len(_shown(await _next(received, "recorded"))) == 1


async def test_s20_another_history_is_told_and_followed(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Whether it begins under an open stream or between two."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        following = await _follow(context)
        await _publish(context, gateway_id)
        position = _last_id(await _news(following))
        await context.hub.storage.log.renew_epoch(position.epoch)
        resumed = await _follow(context, resumed=position)
        for one in (following, resumed):
            text = await _news(one)
            assert _messages(text) == [("gap", {"reason": "epoch"})]
            assert _last_id(text).epoch != position.epoch
        await _publish(context, gateway_id)
        assert _shown(await _news(following)) == _shown(await _news(resumed)) == [(gateway_id, 2)]


async def test_nothing_is_lost_while_the_database_is_away(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found and could not be read comes when it can."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        following = await _follow(context)
        await _publish(context, gateway_id)

        async def away(*_: object) -> None:
            raise StorageUnavailable("gone")

        for name in ("changed_since", "read"):
            with monkeypatch.context() as patch:
                patch.setattr(context.hub.storage.log, name, away)
                with pytest.raises(StorageUnavailable):
                    await _news(following)
        assert _shown(await _news(following)) == [(gateway_id, 1)]


async def test_a_position_is_short_whatever_the_number_of_gateways(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Proxies refuse long headers, and a client that cannot come back is lost."""
    async with open_api() as (client, context):
        gateways = [await new_gateway(client, f"gateway-{number}") for number in range(20)]
        following = await _follow(context)
        for gateway_id in gateways:
            await _publish(context, gateway_id)
        await following.look()
        lengths = set()
        while portion := await following.next_portion():
            lengths.add(len(str(_last_id(portion))))
        assert len(lengths) > 1
        assert max(lengths) < 300


async def test_whoever_loses_the_stream_again_and_again_misses_nothing(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishers commit in any order, gateways come and go, and any portion may be the last one of its pod."""
    monkeypatch.setattr(follower, "_EVENTS_PER_GATEWAY", 3)
    monkeypatch.setattr(follower, "_GATEWAYS_PER_READ", 2)
    random_source = random.Random(11)  # noqa: S311 - repeats, guards nothing
    async with open_api() as (client, context):
        gateways = [await new_gateway(client, f"gateway-{number}") for number in range(6)]
        deleted = gateways.pop()
        following = await _follow(context)
        position = following.position
        shown: list[tuple[str, int]] = []
        busy = [asyncio.create_task(_publish_at_random(context, gateways, seed)) for seed in range(4)]
        while not all(task.done() for task in busy) or not await _is_complete(context, gateways, shown):
            await following.look()
            while portion := await following.next_portion():
                assert all(kind == "recorded" for kind, _ in _messages(portion))
                shown += _shown(portion)
                position = _last_id(portion)
                if random_source.random() < 0.3:
                    break
            if random_source.random() < 0.5:
                following = await _follow(context, resumed=position)
            if deleted and random_source.random() < 0.2:
                await client.delete(f"/api/v1/gateways/{deleted}")
                gateways.append(await new_gateway(client, f"later-{len(shown)}"))
                deleted = ""
        await asyncio.gather(*busy)
    for gateway_id in gateways:
        offsets = [offset for name, offset in shown if name == gateway_id]
        newest = 0
        for offset in offsets:
            # Again, or the next one: never one further.
            assert offset <= newest + 1
            newest = max(newest, offset)


async def _publish_at_random(context: AdminContext, gateways: list[str], seed: int) -> None:
    random_source = random.Random(seed)  # noqa: S311 - repeats, guards nothing
    for _ in range(15):
        names = random_source.sample(list(gateways), random_source.randint(1, 3))
        if random_source.random() < 0.5:
            async with context.hub.storage.database.transaction() as transaction:
                for name in sorted(names):
                    await context.hub.publish(_new_event(name), transaction)
                await asyncio.sleep(random_source.uniform(0, 0.01))
        else:
            await context.hub.publish([_new_event(name) for name in names for _ in range(3)])


async def _is_complete(context: AdminContext, gateways: list[str], shown: list[tuple[str, int]]) -> bool:
    heads = (await context.hub.storage.log.changed_since(0)).heads
    return {(name, offset) for name in gateways for offset in range(1, heads[name] + 1)} <= set(shown)


def _new_event(gateway_id: str) -> Event:
    return Event(gateway_id=gateway_id, type="changed", action=Action.UPDATE, entity_type="Thing", entity_id="1")


# --- how gateways stand ---------------------------------------------------------------------------------------------


async def _standing(watch: FleetWatch) -> dict[str, dict[str, Any]]:
    """What it says now, by gateway."""
    await watch.look()
    said: dict[str, dict[str, Any]] = {}
    while portion := await watch.next_portion():
        said |= {data["gatewayId"]: data for kind, data in _messages(portion) if kind == "gateway"}
    return said


@pytest.fixture
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_looks, "FRESH", 0.0)
    monkeypatch.setattr(shared_looks, "_TIMES_ITS_COST", 0)


@pytest.mark.usefixtures("_always_look")
async def test_each_gateway_is_told_at_first_and_whenever_it_stands_otherwise(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Position, connections and the code of its `why`; a client that returns gets all of them anew."""
    async with open_api() as (client, context):
        one, two = [await new_gateway(client, name) for name in ("one", "two")]
        watch = FleetWatch(context, "default", gateway="")
        first = await _standing(watch)
        assert {name: (each["head"], each["why"]) for name, each in first.items()} == {
            one: (0, "offline"),
            two: (0, "offline"),
        }
        assert await _standing(watch) == {}
        await _publish(context, one, 2)
        assert {name: (each["head"], each["lag"]) for name, each in (await _standing(watch)).items()} == {one: (2, 2)}
        await _publish(context, two, 1)
        with monkeypatch.context() as patch:
            patch.setattr(EventHub, "unforwarded_of", AsyncMock(return_value={two: 3}))
            both = await _standing(watch)
        assert (both[two]["head"], both[two]["lag"]) == (1, 4), "what waits in an outbox counts"
        async with context.hub.subscribe(one) as subscription:
            subscription.acknowledge([await anext(subscription), await anext(subscription)][-1])
            await context.hub.delivery.recorder.flush()
            [told] = (await _standing(watch)).values()
            assert (told["connected"], told["confirmed"], told["why"]) == (True, 2, "current")
        await client.delete(f"/api/v1/gateways/{two}")
        assert (await _standing(watch))[two] == {"gatewayId": two, "deleted": True}
        assert set(await _standing(FleetWatch(context, "default", gateway=""))) == {one}
        assert set(await _standing(FleetWatch(context, "default", gateway=one))) == {one}
        assert await _standing(FleetWatch(context, "other", gateway="")) == {}


@pytest.mark.usefixtures("_always_look")
async def test_a_gateway_that_only_time_makes_another_is_told(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was slow, and has confirmed nothing for too long by now: streams and pages hear of it."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        await _publish(context, gateway_id)
        async with context.hub.subscribe(gateway_id) as subscription:
            await anext(subscription)
            await context.hub.delivery.recorder.flush()
            watch = FleetWatch(context, "default", gateway="")
            pages = [tail._Watched("default"), tail._Watched("default", gateway_id)]
            assert (await _standing(watch))[gateway_id]["why"] == "slow"
            before = [await tail._fingerprint(context, each) for each in pages]
            assert await _standing(watch) == {}
            assert [await tail._fingerprint(context, each) for each in pages] == before
            storage = context.hub.storage
            summaries, status = storage.survey.summaries, storage.presence.status

            async def later_summaries(names: Sequence[str]) -> list[DeliverySummary]:
                return [replace(each, lag_seconds=SLOW_UNTIL) for each in await summaries(names)]

            async def later_status(names: Sequence[str], **_: object) -> dict[str, GatewayStatus]:
                return {name: replace(each, lag_seconds=SLOW_UNTIL) for name, each in (await status(names)).items()}

            monkeypatch.setattr(storage.survey, "summaries", later_summaries)
            monkeypatch.setattr(storage.presence, "status", later_status)
            assert (await _standing(watch))[gateway_id]["why"] == "not-confirming"
            after = [await tail._fingerprint(context, each) for each in pages]
            assert all(old != new for old, new in zip(before, after, strict=True))


@pytest.mark.usefixtures("_always_look")
async def test_a_client_that_reads_slowly_is_told_the_newest_alone(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        watch = FleetWatch(context, "default", gateway="")
        for _ in range(3):
            await _publish(context, gateway_id)
            await watch.look()
        assert [data["head"] for _, data in _messages(await watch.next_portion())] == [3]


async def test_what_gateways_say_of_shown_events_is_told_once(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that the stream has shown, and again when it changes; the last word counts."""
    monkeypatch.setattr(outcome_watch, "_FIRST_PAUSE", 0.0)
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        await _publish(context, gateway_id)
        following = await _follow(context)
        watch = OutcomeWatch(context, following.shown_lately)
        await _publish(context, gateway_id)
        await _news(following)
        for kind, shown in ((OutcomeKind.REJECTED, "rejected"), (OutcomeKind.APPLIED, "applied")):
            outcomes = [
                Outcome(gateway_id=gateway_id, replica="a", offset=offset, kind=kind, reason="") for offset in (1, 2)
            ]
            await context.hub.storage.outcomes.record(outcomes)
            await watch.look()
            [(name, told)] = _messages(await watch.next_portion())
            assert (name, told["offset"], told["replica"], told["kind"]) == ("outcome", 2, "a", shown)
            await watch.look()
            assert await watch.next_portion() == ""


@pytest.mark.usefixtures("_always_look")
async def test_a_rejection_is_told_before_the_position_that_passes_it(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """However long nothing was heard before, as when the gateway was offline; in the same portion, and once."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        following = await _follow(context)
        outcomes = OutcomeWatch(context, following.shown_lately)
        watch = FleetWatch(context, "default", gateway="", outcomes=outcomes)
        await _publish(context, gateway_id, 2)
        await _news(following)
        outcomes._look_at = float("inf")
        assert (await _standing(watch))[gateway_id]["confirmed"] == 0
        async with context.hub.subscribe(gateway_id) as subscription:
            for kind in (OutcomeKind.REJECTED, OutcomeKind.APPLIED):
                event = await anext(subscription)
                outcome = Outcome(
                    gateway_id=gateway_id, replica="", offset=event.offset, kind=kind, reason="no such template"
                )
                await context.hub.storage.outcomes.record([outcome])
                subscription.acknowledge(event)
                await context.hub.delivery.recorder.flush()
                await watch.look()
                told = _messages(await watch.next_portion())
                assert [kind for kind, _ in told] == ["outcome", "gateway"]
                assert told[0][1]["offset"] == told[1][1]["confirmed"] == event.offset
                assert told[0][1]["kind"] == kind.value


@pytest.mark.parametrize("alone", [True, False])
async def test_whoever_comes_back_is_told_what_became_of_what_was_shown_before(
    open_api: OpenApi, new_gateway: NewGateway, *, alone: bool
) -> None:
    """The position of its gateway has passed it meanwhile, and would let it seem applied."""
    async with open_api() as (client, context):
        gateway_id, quiet = [await new_gateway(client, name) for name in ("one", "quiet")]
        foreign = await new_gateway(client, headers={"Authorization": "Bearer other-token"})
        following = await _follow(context)
        for each in (gateway_id, quiet, foreign):
            await _publish(context, each, 2)
        await _news(following)
        position = following.position
        rejected = [
            Outcome(gateway_id=each, replica="", offset=offset, kind=OutcomeKind.REJECTED, reason="no")
            for each, offset in ((gateway_id, 1), (quiet, 2), (foreign, 1))
        ]
        await context.hub.storage.outcomes.record(rejected)
        again = await _follow(context, gateway_id if alone else "", position)
        watch = OutcomeWatch(context, again.shown_lately)
        await watch.look()
        told = {(data["gatewayId"], data["offset"]) for _, data in _messages(await watch.next_portion())}
        assert told == ({(gateway_id, 1)} if alone else {(gateway_id, 1), (quiet, 2)})


async def test_what_was_shown_before_is_remembered_within_bounds(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """The newest of each gateway first; what comes anew is not among it, and no forged position finds more."""
    async with open_api() as (client, context):
        busy, quiet = [await new_gateway(client, name) for name in ("busy", "quiet")]
        await _publish(context, busy, outcome_watch.MOST_EVENTS + 3)
        await _publish(context, quiet)
        position = (await _follow(context)).position
        await _publish(context, busy)
        remembered = (await _follow(context, resumed=position)).shown_lately
        newest = {(busy, offset) for offset in range(5, outcome_watch.MOST_EVENTS + 4)}
        assert set(remembered) == {(quiet, 1), *newest}
        forged = replace(position, gateway=busy, log_id=0, offset=2**60)
        assert set((await _follow(context, resumed=forged)).shown_lately) == set(remembered)


# --- over HTTP --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _streaming(context: AdminContext, query: str = "", **headers: str) -> AsyncIterator[asyncio.Queue[str]]:
    """What the stream sends, as it comes; an empty text is its end. The client leaves with the block."""
    received: asyncio.Queue[str] = asyncio.Queue()
    leave: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    await leave.put({"type": "http.request", "body": b"", "more_body": False})

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await received.put(str(message["status"]))
        else:
            await received.put(message.get("body", b"").decode())

    named = {"authorization": "Bearer default-admin-token", **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": _PATH,
        "raw_path": _PATH.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()],
        "server": ("pod", 80),
        "client": ("127.0.0.1", 5000),
    }
    serving = asyncio.create_task(create_admin_app(context)(scope, leave.get, send))  # type: ignore[arg-type] # plain dicts
    try:
        yield received
    finally:
        await leave.put({"type": "http.disconnect"})
        async with asyncio.timeout(PATIENCE):
            await serving


async def _next(received: asyncio.Queue[str], kind: str) -> str:
    """The next portion that holds a message of this kind."""
    while text := await received.get():
        if kind in {each for each, _ in _messages(text)}:
            return text
    raise AssertionError("the stream ended")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "INTERVAL", 0.01)


async def test_a_client_gets_what_comes_and_may_leave(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Its place is free as soon as it has gone."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        async with _streaming(context) as received:
            assert await received.get() == "200"
            assert (await received.get()).startswith(": following\nid: ")
            await _publish(context, gateway_id)
            text = await _next(received, "recorded")
            assert _shown(text) == [(gateway_id, 1)]
            assert context.streams._value == MAX_STREAMS - 1
        assert context.streams._value == MAX_STREAMS
        await _publish(context, gateway_id)
        async with _streaming(context, last_event_id=str(_last_id(text))) as received:
            # The first one comes again if others' transactions were open when it was shown.
            while (gateway_id, 2) not in _shown(await _next(received, "recorded")):
                pass


async def test_a_silent_stream_says_that_it_is_there(open_api: OpenApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.0)
    async with open_api() as (_, context), _streaming(context) as received:
        while await received.get() != ": still here\n\n":
            pass


async def test_a_client_is_told_when_the_pod_cannot_read_and_when_it_can_again(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, whichever part fails; what came meanwhile follows, and the position is kept."""
    monkeypatch.setattr(shared_looks, "FRESH", 0.0)
    monkeypatch.setattr(shared_looks, "_TIMES_ITS_COST", 0)
    monkeypatch.setattr(outcome_watch, "_FIRST_PAUSE", 0.0)

    async def away(*_: object, **__: object) -> None:
        raise StorageUnavailable("gone")

    async with open_api() as (client, context), _streaming(context) as received:
        assert await received.get() == "200"
        assert (await received.get()).startswith(": following")
        gateway_id = await new_gateway(client)
        await context.hub.publish([_new_event(gateway_id)])
        await _next(received, "recorded")
        storage = context.hub.storage
        parts = [
            (storage.log, "changed_since"),
            (storage.survey, "summaries"),
            (storage.outcomes, "of_many"),
            (context.control_plane.search, "recent_deployments"),
        ]
        for owner, name in parts:
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, away)
                text = await _next(received, "away")
                [(_, data)] = _messages(text)
                assert data["seconds"] >= 0.0
                assert "id: " not in text
            text = await received.get()
            while not _messages(text):
                text = await received.get()
            assert _messages(text) == [("back", {})]
        with monkeypatch.context() as patch:
            patch.setattr(storage.log, "changed_since", away)
            await _next(received, "away")
            await context.hub.publish([_new_event(gateway_id)])
        seen: set[str] = set()
        while not seen >= {"back", "recorded"}:
            seen |= {kind for kind, _ in _messages(await received.get())}


async def test_s29_a_stopping_pod_ends_its_streams(open_api: OpenApi) -> None:
    async with open_api() as (_, context), _streaming(context) as received:
        assert await received.get() == "200"
        context.stopping.set()
        assert (await received.get()).startswith(": following")
        while await received.get():
            pass


async def test_s26_a_stream_ends_with_the_callers_token(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not because the database cannot tell whether the token is still good."""
    monkeypatch.setattr(stream, "CHECK_INTERVAL", 0.0)
    async with open_api() as (client, context), _streaming(context) as received:
        gateway_id = await new_gateway(client)
        assert await received.get() == "200"
        assert (await received.get()).startswith(": following")

        async def away(_: str) -> str:
            raise StorageUnavailable("gone")

        with monkeypatch.context() as patch:
            patch.setattr(context.admin_tokens, "caller_with", away)
            await _publish(context, gateway_id)
            while not _shown(await received.get()):
                pass
        await context.admin_tokens.prepare("another-admin-token")
        while await received.get():
            pass


async def test_a_pod_serves_only_so_many_streams(open_api: OpenApi) -> None:
    """One more is 503: another pod may have room."""
    async with open_api(streams=asyncio.Semaphore(0)) as (client, _):
        answer = await client.get(_PATH)
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:gatecast:problem:overloaded"
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("text", ["x", "e30=", "x" * 40_000])
async def test_an_id_that_was_never_given_is_refused(open_api: OpenApi, text: str) -> None:
    async with open_api() as (client, _):
        answer = await client.get(_PATH, headers={"Last-Event-ID": text})
    assert answer.status_code == 422
    assert answer.json()["field"].lower() == "last-event-id"


async def test_an_unknown_gateway_cannot_be_followed(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        answer = await client.get(_PATH, params={"gateway": str(uuid4())})
    assert answer.status_code == 404
