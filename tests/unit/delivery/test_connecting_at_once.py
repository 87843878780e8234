"""What it costs the database that many gateways come at once, as after the death of a pod (scenario S30)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gatecast.hub import EventHub
from gatecast.settings import Settings
from gatecast.storage.contract import Connection
from gatecast.testing.eventually import eventually

_GATEWAYS = 40


def _connection(number: int, protocol: str) -> Connection:
    return Connection(
        connection_id=f"connection-{number}",
        gateway_id=f"gateway-{number}",
        replica="",
        pod_id="pod",
        protocol=protocol,
        remote="test",
        token_id=None,
    )


def _count(database: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:  # noqa: ANN401 - of either kind
    """Counts statements on PostgreSQL, and turns of its threads on SQLite."""
    asked: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(database, name)

        def counting(*arguments: object) -> Any:  # noqa: ANN401 - whatever it answers
            asked.append(name)
            return original(*arguments)

        return counting

    for name in {"fetch", "execute", "read", "write"} & set(dir(database)):
        monkeypatch.setattr(database, name, counted(name))
    return lambda: len(asked)


@pytest.mark.parametrize("protocol", ["gateway.v1", "gatecast.v2"])
async def test_s30_statements_for_gateways_that_connect_at_once_do_not_grow_with_them(
    database_url: str, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """One look-up, one record, one question after what is left out, one read; and one to record that they leave."""
    settings = Settings(
        database=database_url,
        migrate="always",
        pod_id="pod",
        poll_interval=timedelta(hours=1),
        notifications=False,
        pooler="off",
    )
    async with EventHub.open(settings=settings) as hub:
        for number in range(_GATEWAYS):
            await hub.register_gateway(f"gateway-{number}")
        await hub.delivery.presence.until_known()
        statements = _count(hub.storage.database, monkeypatch)
        opened = await asyncio.gather(
            *(hub.delivery.subscribe(_connection(number, protocol)) for number in range(_GATEWAYS))
        )
        assert statements() <= 16
        status = await hub.storage.presence.status([each.connection.gateway_id for each in opened])
        assert [len(each.connections) for each in status.values()] == [1] * _GATEWAYS
        for each in opened:
            each.close()
        await hub.delivery.recorder.flush()
        await eventually(lambda: _none_left(hub))
        assert statements() <= 32


async def _none_left(hub: EventHub) -> bool:
    status = await hub.storage.presence.status([f"gateway-{number}" for number in range(_GATEWAYS)])
    return not any(each.connections for each in status.values())
