"""The conformance vectors of `gatecast.v2` hold for the client and the server that ship with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gatecast.errors import ProtocolViolation
from gatecast.events import Action, Position, RecordedEvent
from gatecast.protocol import client_session, session
from gatecast.protocol.client_session import ClientAction, ClientSession
from gatecast.protocol.session import Opening, ServerSession, SessionLimits, Version

_VECTORS = Path(__file__).parents[3] / "docs/reference/vectors"
_MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)

Step = Mapping[str, Any]


def _cases(side: str) -> pytest.MarkDecorator:
    cases = json.loads((_VECTORS / f"gatecast-v2-{side}.json").read_text("utf-8"))["cases"]
    names = [case["name"] for case in cases]
    assert len(names) == len(set(names))
    return pytest.mark.parametrize("case", cases, ids=names)


def _frame(step: Step) -> str:
    if "receiveText" in step:
        return str(step["receiveText"])
    messages = step["receive"] if isinstance(step["receive"], list) else [step["receive"]]
    return "\x1e".join(map(json.dumps, messages))


# --- the client -------------------------------------------------------------------------------------------------------


@_cases("client")
def test_the_client_does_what_the_vectors_say(case: Step) -> None:
    after = Position.parse(case["after"]) if case["after"] else None
    client = ClientSession(after, now=0.0)
    now = 0.0
    for step in case["steps"]:
        now = step.get("at", now)
        if step.get("ends"):
            with pytest.raises(ProtocolViolation):
                _client_step(client, step, now)
        else:
            assert [_told(action) for action in _client_step(client, step, now)] == step["then"], step
        if "resume" in step:
            assert str(client.acked) == step["resume"], step


def _client_step(client: ClientSession, step: Step, now: float) -> Sequence[ClientAction | session.SendText]:
    if "receive" in step or "receiveText" in step:
        return client.receive_text(_frame(step), now)
    if "ping" in step:
        return client.receive_ping(step["ping"].encode(), now)
    if "acknowledge" in step:
        return client.acknowledge(Position.parse(step["acknowledge"]))
    if "reject" in step:
        return client.reject(Position.parse(step["reject"]["position"]), step["reject"]["reason"])
    if "resynchronized" in step:
        return client.resynchronized()
    assert step["tick"]
    client.tick(now)
    return []


def _told(action: ClientAction | session.SendText) -> dict[str, Any]:
    match action:
        case session.SendText(text):
            return {"send": json.loads(text)}
        case client_session.Welcomed():
            return {"welcome": {"gatewayId": action.gateway_id, "connectionId": action.connection_id}}
        case client_session.Delivered():
            shown = {"position": str(action.position), "type": action.type, "payload": action.payload}
            return {"deliver": shown}
        case client_session.Undeliverable(position, reason):
            assert reason.startswith("undeliverable")
            return {"undeliverable": {"position": str(position)}}
        case client_session.Resynchronize(reason, position):
            return {"resynchronize": {"reason": reason, "position": str(position)}}
        case client_session.SendPong(payload):
            return {"pong": payload.decode()}


# --- the server -------------------------------------------------------------------------------------------------------


@_cases("server")
def test_the_server_does_what_the_vectors_say(case: Step) -> None:
    resync = case.get("resync")
    opening = Opening(
        gateway_id="g-1",
        connection_id="c-1",
        epoch=UUID(case["epoch"]),
        start=case["start"],
        version=Version.GATECAST_V2,
        resync=(resync["reason"], Position.parse(resync["position"])) if resync else None,
        batch_bytes=case.get("batch", 0),
    )
    server = ServerSession(opening, SessionLimits(), now=0.0)
    now = 0.0
    for step in case["steps"]:
        now = step.get("at", now)
        if "room" in step:
            assert server.room == step["room"]
            continue
        done = [_done(action) for action in _server_step(server, step, now)]
        assert "then" not in step or done == step["then"], step


def _server_step(server: ServerSession, step: Step, now: float) -> Sequence[session.SessionAction]:
    inputs: Mapping[str, Callable[[Any], Sequence[session.SessionAction]]] = {
        "begin": lambda _: server.start(_MOMENT),
        "deliver": lambda ends: server.deliver([_event(offset) for offset in range(ends[0], ends[1] + 1)], now),
        "receive": lambda _: server.receive_text(_frame(step), now),
        "receiveText": lambda _: server.receive_text(_frame(step), now),
        "binary": lambda _: server.receive_binary(now),
        "pong": lambda payload: server.receive_pong(payload.encode(), now),
        "skipTo": server.skip_to,
        "tick": lambda _: server.tick(now),
    }
    [name] = inputs.keys() & step.keys()
    return inputs[name](step[name])


def _event(offset: int) -> RecordedEvent:
    return RecordedEvent(
        gateway_id="g-1",
        offset=offset,
        event_id=UUID(f"11111111-2222-4333-8444-{offset:012d}"),
        type="route.changed",
        action=Action.UPDATE,
        entity_type="Route",
        entity_id="route-7",
        payload=json.dumps({"n": offset}),
        originated_at=_MOMENT,
        recorded_at=_MOMENT,
    )


def _done(action: session.SessionAction) -> dict[str, Any]:
    match action:
        case session.SendText(text):
            messages = [json.loads(part) for part in text.split("\x1e")]
            return {"send": messages if len(messages) > 1 else messages[0]}
        case session.SendPing(payload):
            return {"ping": payload.decode()}
        case session.Close(code):
            return {"close": code.number}
        case session.Confirmed(offset):
            return {"confirmed": offset}
        case session.Rejected(offset, reason):
            return {"rejected": {"offset": offset, "reason": reason}}
        case session.ResyncDone(position):
            return {"resynchronized": str(position)}
        case _:
            raise AssertionError(action)
