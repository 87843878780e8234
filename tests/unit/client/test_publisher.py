"""Publishing over HTTP: once, whatever happens on the way, and with errors that say what is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from gatecast.client import EventPublisher, Published
from gatecast.errors import (
    Conflict,
    Forbidden,
    GatecastError,
    InvalidValue,
    PayloadTooLarge,
    ProtocolViolation,
    ServerUnavailable,
    Unauthenticated,
    UnknownGateway,
)
from gatecast.events import Action, Position
from gatecast.testing.doubles.scripted_control_plane import Answer, Request, ScriptedControlPlane
from gatecast.waiting import Backoff

PATH = "POST /api/v1/gateways/gw-1/events"
POSITION = Position(UUID(int=1), 7)
NO_PAUSE = Backoff(first=0.001, longest=0.001)


class Log:
    """Answers like a log: the first time 201, the same event again 200; before that what the test wants."""

    def __init__(self, *first: Answer | Callable[[], None]) -> None:
        self.first = list(first)
        self.stored: set[str] = set()
        self.success = 201

    async def __call__(self, request: Request) -> Answer:
        """Store the event, then answer."""
        event_id = request.json["eventId"]
        status = 200 if event_id in self.stored else self.success
        self.stored.add(event_id)
        if self.first:
            first = self.first.pop(0)
            if isinstance(first, Answer):
                return first
            first()
        return Answer(status=status, body={"eventId": event_id, "offset": 7, "position": str(POSITION)})


@asynccontextmanager
async def publishing(answer: Answer | Log) -> AsyncIterator[tuple[ScriptedControlPlane, EventPublisher]]:
    async with ScriptedControlPlane() as server:
        server.answers[PATH] = answer
        async with EventPublisher(f"http://{server.host}/", "admin-1", backoff=NO_PAUSE) as publisher:
            yield server, publisher


async def publish(publisher: EventPublisher, event_id: UUID | None = None) -> Published:
    return await publisher.publish(
        " gw-1 ",
        type="route.changed",
        action="UPDATE",
        entity_type="route",
        entity_id="r-1",
        data={"näme": ["x", 1, None]},
        event_id=event_id,
    )


async def test_an_event_is_sent_as_the_admin_api_wants_it() -> None:
    event_id = uuid4()
    async with publishing(Log()) as (server, publisher):
        published = await publish(publisher, event_id)
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer admin-1"
    assert request.headers["content-type"] == "application/json"
    assert request.query == {}
    assert request.json == {
        "type": "route.changed",
        "action": "UPDATE",
        "entityType": "route",
        "entityId": "r-1",
        "eventId": str(event_id),
        "data": {"näme": ["x", 1, None]},
    }
    assert (published.event_id, published.position) == (event_id, POSITION)
    assert (published.repeated, published.done, published.answer["offset"]) == (False, True, 7)


async def test_each_event_gets_an_id_of_its_own() -> None:
    async with publishing(Log()) as (server, publisher):
        first = await publish(publisher)
        second = await publisher.publish(
            "gw-1", type="t", action=Action.CREATE, entity_type="route", entity_id="r", data={}
        )
    assert first.event_id != second.event_id
    assert [request.json["eventId"] for request in server.requests] == [str(first.event_id), str(second.event_id)]


async def test_the_same_event_again_is_told_apart() -> None:
    event_id = uuid4()
    async with publishing(Log()) as (_, publisher):
        first, second = await publish(publisher, event_id), await publish(publisher, event_id)
    assert (first.repeated, second.repeated) == (False, True)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_not_now_is_tried_again_with_the_same_id(status: int) -> None:
    log = Log(Answer(status=status), Answer(status=status, headers={"Retry-After": "0"}))
    async with publishing(log) as (server, publisher):
        published = await publish(publisher)
    assert len(server.requests) == 3
    assert log.stored == {str(published.event_id)}


async def test_s16_an_answer_that_is_lost_on_the_way_makes_no_second_event() -> None:
    async with publishing(Answer()) as (server, publisher):
        log = Log(server.cut_requests)
        server.answers[PATH] = log
        published = await publish(publisher)
    assert len(server.requests) == 2
    assert log.stored == {str(published.event_id)}
    assert published.repeated


async def test_attempts_end_with_an_error_that_names_the_event() -> None:
    event_id = uuid4()
    async with publishing(Answer(status=503)) as (server, publisher):
        with pytest.raises(ServerUnavailable, match="503") as caught:
            await publish(publisher, event_id)
    assert caught.value.event_id == event_id
    assert len(server.requests) == 5


async def test_a_server_that_is_not_there_is_an_error_too() -> None:
    async with ScriptedControlPlane() as server:
        url = f"http://{server.host}"
    async with EventPublisher(url, "admin-1", backoff=NO_PAUSE) as publisher:
        with pytest.raises(ServerUnavailable):
            await publish(publisher)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (Answer(status=401), Unauthenticated, "credential"),
        (Answer(status=403, body={"title": "Forbidden", "detail": "read only"}), Forbidden, "read only"),
        (Answer(status=404), UnknownGateway, "gw-1"),
        (Answer(status=409, body={"detail": "gone by", "field": "eventId"}), Conflict, "gone by"),
        (Answer(status=413, body={"size": 2_000_000, "limit": 1_048_576}), PayloadTooLarge, "2,000,000"),
        (Answer(status=307, headers={"Location": "http://127.0.0.1:1/"}), ProtocolViolation, "307"),
        (Answer(status=418, body="not json"), ProtocolViolation, "418"),
        (Answer(status=400, body=[1]), InvalidValue, "400"),
        (Answer(status=201, body="not json"), ProtocolViolation, "answer"),
        (Answer(status=201, body=[1]), ProtocolViolation, "answer"),
        (Answer(status=201, body={"eventId": "x", "position": "y"}), ProtocolViolation, "answer"),
    ],
)
async def test_an_answer_that_is_no_success_is_an_error_at_once(
    answer: Answer, error: type[GatecastError], words: str
) -> None:
    async with publishing(answer) as (server, publisher):
        with pytest.raises(error, match=words):
            await publish(publisher)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 422])
async def test_a_refused_value_names_its_field(status: int) -> None:
    problem = {"title": "Invalid value", "detail": "type must not be blank", "field": "type", "value": ""}
    async with publishing(Answer(status=status, body=problem)) as (_, publisher):
        with pytest.raises(InvalidValue) as caught:
            await publish(publisher)
    assert (caught.value.field, caught.value.value, str(caught.value)) == ("type", "", "type must not be blank")


async def test_what_breaks_a_rule_is_refused_before_it_is_sent() -> None:
    async with publishing(Log()) as (server, publisher):
        with pytest.raises(InvalidValue, match="action"):
            await publisher.publish("gw-1", type="t", action="EXPLODE", entity_type="e", entity_id="1")
        with pytest.raises(PayloadTooLarge):
            await publisher.publish(
                "gw-1", type="t", action="UPDATE", entity_type="e", entity_id="1", data={"x": "x" * 2**20}
            )
        with pytest.raises(InvalidValue, match="gateway_id"):
            await publisher.publish(" ", type="t", action="UPDATE", entity_type="e", entity_id="1")
    assert server.requests == []


@pytest.mark.parametrize(("status", "done"), [(201, True), (200, True), (202, False)])
async def test_waiting_is_left_to_the_server_and_its_answer_says_what_came_of_it(status: int, done: bool) -> None:  # noqa: FBT001 - a table
    log = Log()
    log.success = status
    async with publishing(log) as (server, publisher):
        published = await publisher.publish(
            "gw-1", wait="applied", timeout=2.5, type="t", action="UPDATE", entity_type="e", entity_id="1"
        )
    assert server.requests[0].query == {"wait": "applied", "timeout": "2.5"}
    assert published.done is done


async def test_an_id_with_a_slash_stays_one_segment_of_the_path() -> None:
    async with ScriptedControlPlane() as server:
        async with EventPublisher(f"http://{server.host}", "admin-1") as publisher:
            with pytest.raises(UnknownGateway):
                await publisher.publish("a/b?c", type="t", action="UPDATE", entity_type="e", entity_id="1")
        assert server.requests[0].raw_path == "/api/v1/gateways/a%2Fb%3Fc/events"


async def test_it_must_be_opened_first() -> None:
    with pytest.raises(RuntimeError, match="open it first"):
        await publish(EventPublisher("http://127.0.0.1:1", "admin-1"))
