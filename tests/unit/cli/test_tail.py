"""`gatecast tail` prints events, and gateways when it is asked to, whatever else the stream tells."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gatecast.cli import tail

_EVENT = {
    "gatewayId": "g",
    "offset": 7,
    "type": "api.updated",
    "action": "UPDATE",
    "entityType": "Api",
    "entityId": "a",
}

_STREAM: list[tuple[str, dict[str, Any]]] = [
    ("gateway", {"gatewayId": "g", "name": "edge"}),
    ("outcome", {"gatewayId": "g", "offset": 6, "kind": "applied"}),
    ("deployment", {"gatewayId": "g", "state": "DEPLOYED"}),
    ("reload", {"list": "deployments"}),
    ("of-a-later-release", {}),
    ("recorded", {**_EVENT, "type": "api.deployed"}),
    ("recorded", _EVENT),
]


@pytest.mark.parametrize("wanted", ["", "UPDATED"])
async def test_other_messages_end_no_tail(
    wanted: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def remote(*_: object) -> AsyncIterator[None]:
        yield

    async def messages(*_: object) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        for each in _STREAM:
            yield each

    monkeypatch.setattr(tail, "remote", remote)
    monkeypatch.setattr(tail, "_messages", messages)
    limit = 1 if wanted else 2
    filters = {"type": wanted, "action": "", "entity": ""}
    await tail._tail("", filters, "", "", limit=limit, with_state=False, as_json=True)
    shown = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert shown[-1] == _EVENT
    assert len(shown) == limit
