"""`gatecast outbox …`, on an outbox of a hub that is not open."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from gatecast.cli.main import app
from gatecast.errors import DatabaseUnsuitable, GatecastError, InvalidValue, SettingInvalid
from gatecast.outbox.forwarder import Forwarder
from gatecast.storage.connect import open_engine, open_storage, place_of, stream_facts
from gatecast.testing.contracts.backend import GATEWAY, OTHER_GATEWAY, make_event, make_events
from tests.contract.outbox.site import Opening, Site, ids


async def _run(*arguments: str, typed: str | None = None) -> tuple[str, BaseException | None]:
    """What a command prints, and how it fails."""
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), input=typed)
    return result.output, result.exception


async def _json(*arguments: str) -> Any:  # noqa: ANN401 - JSON
    output, error = await _run(*arguments, "--json")
    assert error is None, output
    return json.loads(output)


async def _failure(kind: type[GatecastError], *arguments: str) -> str:
    _, error = await _run(*arguments)
    assert isinstance(error, kind)
    return str(error)


async def _refuse(site: Site, *, count: int) -> tuple[list[Any], Forwarder]:
    """Events of one gateway wait, because the log refuses the first."""
    events = make_events(count)
    log = site.log()
    log.refused = {events[0].event_id: "too large [for] it"}
    forwarder = site.forwarder(log=log)
    await site.store(*events)
    for _ in range(2):
        await forwarder.forward()
    log.refused.clear()
    return events, forwarder


async def test_the_status_tells_what_waits_and_what_is_refused(opening: Opening, outbox_url: str) -> None:
    """By gateway, and since when; nothing is said of gateways of which nothing waits."""
    async with opening() as site:
        empty = await _json("outbox", "status", "--outbox", outbox_url)
        assert (empty["waiting"], empty["gateways"], empty["refused"], empty["oldest"]) == (0, [], [], None)
        assert "nothing waits" in (await _run("outbox", "status", "--outbox", outbox_url))[0]
        events, _ = await _refuse(site, count=2)
        await site.store(make_event(OTHER_GATEWAY))
        await site.records.bind("a-log", "nats://host/EVENTS")
        found = await _json("outbox", "status", "--outbox", outbox_url)
        assert {each["gateway"]: each["waiting"] for each in found["gateways"]} == {GATEWAY: 2, OTHER_GATEWAY: 1}
        assert found["oldest"] == min(each["since"] for each in found["gateways"])
        assert (found["waiting"], found["log"], found["logPlace"]) == (3, "a-log", "nats://host/EVENTS")
        assert found["forwarder"] == "pod-1"
        [refused] = found["refused"]
        assert (refused["gateway"], refused["eventId"]) == (GATEWAY, str(events[0].event_id))
        assert "too large [for] it" in refused["reason"]
        text, _ = await _run("outbox", "status", "--outbox", outbox_url)
        for word in (GATEWAY, OTHER_GATEWAY, str(events[0].event_id), "too large [for] it", "pod-1", "a-log"):
            assert word in text


async def test_a_refused_event_is_forwarded_again(opening: Opening, outbox_url: str) -> None:
    """Once that was confirmed."""
    async with opening() as site:
        events, forwarder = await _refuse(site, count=3)
        output, _ = await _run("outbox", "retry", GATEWAY, "--outbox", outbox_url, typed="n\n")
        assert "too large [for] it" in output
        await forwarder.forward()
        assert await site.ids() == []
        output, error = await _run("outbox", "retry", GATEWAY, "--outbox", outbox_url, typed="y\n")
        assert error is None, output
        await forwarder.forward()
        assert await site.ids() == ids(events)


async def test_what_one_log_refused_is_tried_in_the_log_of_a_later_binding(
    opening: Opening, outbox_url: str, tmp_path: Path
) -> None:
    """And later events go on."""
    async with opening() as site:
        events, _ = await _refuse(site, count=2)
        await site.records.bind("the-log-of-before", "")
        log = f"sqlite:///{tmp_path}/log.db"
        await _json("outbox", "bind", "--yes", "--outbox", outbox_url, "--database", log)
        forwarder = site.forwarder(bound_to=str(await site.engine.log.identity()))
        await forwarder.forward()
        late = make_event()
        await site.store(late)
        await forwarder.forward()
        assert await site.ids() == ids([*events, late])


async def test_what_an_earlier_release_left_refused_after_a_binding_can_be_decided(
    opening: Opening, outbox_url: str
) -> None:
    """It has kept the refusal, and has not looked at the new log."""
    async with opening() as site:
        events, forwarder = await _refuse(site, count=3)
        await site.statement("UPDATE gatecast_outbox_gateways SET log_epoch = '' WHERE gateway_id = $1", GATEWAY)
        [refused] = (await _json("outbox", "status", "--outbox", outbox_url))["refused"]
        assert refused["eventId"] == str(events[0].event_id)
        await _json("outbox", "skip", GATEWAY, "--yes", "--outbox", outbox_url)
        await forwarder.forward()
        assert await site.ids() == ids(events[1:])


async def test_a_refusal_that_was_overtaken_blocks_nothing(opening: Opening) -> None:
    """As an earlier release left it after a binding. Nobody decides about it, and nothing is forwarded twice."""
    async with opening() as site:
        events, forwarder = await _refuse(site, count=3)
        await site.statement("UPDATE gatecast_outbox_gateways SET forwarded = 2 WHERE gateway_id = $1", GATEWAY)
        mark = await site.records.mark(GATEWAY)
        assert not await site.records.leave_out(mark)
        assert not await site.as_outbox(forwarder).try_again(GATEWAY)
        await forwarder.forward()
        assert await site.ids() == ids(events[2:])


async def test_a_refused_event_is_left_out(opening: Opening, outbox_url: str) -> None:
    """And those after it are forwarded."""
    async with opening() as site:
        events, forwarder = await _refuse(site, count=3)
        answer = await _json("outbox", "skip", GATEWAY, "--yes", "--outbox", outbox_url)
        assert answer == {"gateway": GATEWAY, "eventId": str(events[0].event_id), "decision": "skip"}
        await forwarder.forward()
        assert await site.ids() == ids(events[1:])


async def test_a_decision_concerns_the_event_that_was_shown(opening: Opening) -> None:
    """Another one may be refused by the time of the answer."""
    async with opening() as site:
        events, forwarder = await _refuse(site, count=2)
        outbox = site.as_outbox(forwarder)
        for event_id in (uuid4(), events[1].event_id):
            assert not await outbox.try_again(GATEWAY, event_id)
            assert not await outbox.leave_out(GATEWAY, event_id)
        assert await outbox.leave_out(GATEWAY, events[0].event_id)


async def test_where_nothing_is_refused_nothing_is_decided(opening: Opening, outbox_url: str) -> None:
    """The error says where to look."""
    async with opening() as site:
        await site.store(make_event())
        for command in ("retry", "skip"):
            said = await _failure(InvalidValue, "outbox", command, GATEWAY, "--yes", "--outbox", outbox_url)
            assert "gatecast outbox status" in said


async def test_a_database_that_is_no_outbox_is_refused(tmp_path: Path) -> None:
    """And one that is not there, and none at all; nothing is created."""
    log = f"sqlite:///{tmp_path}/log.db"
    async with open_storage(log) as opened:
        await opened.storage.database.migrate()
    assert "not an outbox" in await _failure(DatabaseUnsuitable, "outbox", "status", "--outbox", log)
    await _failure(DatabaseUnsuitable, "outbox", "status", "--outbox", f"sqlite:///{tmp_path}/nothing.db")
    assert "--outbox" in await _failure(SettingInvalid, "outbox", "status")
    assert [each.name for each in tmp_path.glob("nothing*")] == []


@pytest.mark.slow
async def test_a_stream_that_is_not_there_is_refused(opening: Opening, outbox_url: str, stream_url: str) -> None:
    """By every command that is about a log that exists; a mistyped name makes none. Then it is made, and taken."""
    async with opening() as site:
        await site.records.bind("the-log-of-before", "")
        bind = ("outbox", "bind", "--yes", "--outbox", outbox_url, "--database", stream_url)
        for command in (bind, *(("epoch", each, "--database", stream_url) for each in ("show", "keep", "renew"))):
            assert "there is no stream" in await _failure(DatabaseUnsuitable, *command)
        assert await stream_facts(stream_url) is None
        assert (await site.records.forwarder()).log == "the-log-of-before"
        async with open_engine(stream_url) as stream:
            identity = str(await stream.engine.log.identity())
        assert (await _json(*bind))["log"] == identity


async def test_an_outbox_is_bound_to_another_log(opening: Opening, outbox_url: str, tmp_path: Path) -> None:
    """What waits gets into that one; a log that is not there, and the outbox itself, are refused."""
    async with opening() as site:
        log = f"sqlite:///{tmp_path}/log.db"
        await site.records.bind("the-log-of-before", "")
        events = make_events(2)
        await site.store(*events)
        await _failure(
            DatabaseUnsuitable,
            *("outbox", "bind", "--yes", "--outbox", outbox_url, "--database", f"sqlite:///{tmp_path}/mistyped.db"),
        )
        await _failure(SettingInvalid, "outbox", "bind", "--yes", "--outbox", outbox_url, "--database", outbox_url)
        output, _ = await _run("outbox", "bind", "--outbox", outbox_url, "--database", log, typed="n\n")
        assert "the-log-of-before" in output
        assert (await site.records.forwarder()).log == "the-log-of-before"
        answer = await _json("outbox", "bind", "--yes", "--outbox", outbox_url, "--database", log)
        identity = str(await site.engine.log.identity())
        assert answer == {"before": "the-log-of-before", "log": identity}
        assert (await site.records.forwarder()).log_place == place_of(log)
        await site.forwarder(bound_to=identity).forward()
        assert await site.ids() == ids(events)
