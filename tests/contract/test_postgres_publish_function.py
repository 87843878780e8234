"""The SQL function `gatecast.publish`, by which services in any language take part."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest

from gatecast.events import MAX_PAYLOAD_BYTES
from gatecast.storage.contract import Storage
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.contracts.backend import GATEWAY, ids_of, publish, read
from gatecast.testing.contracts.backend import make_event as python_event

_VALID: dict[str, object] = {
    "gateway_id": GATEWAY,
    "type": "api.deployed",
    "action": "CREATE",
    "entity_type": "Api",
    "entity_id": "api-1",
}


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[tuple[Storage, asyncpg.Connection[Any]]]:
    connection = await asyncpg.connect(url)
    try:
        async with PostgresStorage.open(url) as storage:
            await storage.log.register(GATEWAY)
            yield storage, connection
    finally:
        await connection.close()


#: The types that data may have; None: the driver says nothing of it, and PostgreSQL decides.
_TYPES = [None, "text", "varchar", "json", "jsonb"]


async def _publish(connection: asyncpg.Connection[Any], *, data_type: str | None = None, **arguments: object) -> int:
    given = {**_VALID, **arguments}
    # As text, because no datetime holds what PostgreSQL takes for an instant.
    casts = {"originated_at": "::text::timestamptz", "data": f"::{data_type}" if data_type else ""}
    named = ", ".join(f"{name} => ${number}{casts.get(name, '')}" for number, name in enumerate(given, start=1))
    offset: int = await connection.fetchval(f"SELECT gatecast.publish({named})", *given.values())
    return offset


async def test_an_event_published_in_sql_is_like_any_other(postgres_url: str) -> None:
    moment = datetime(2026, 5, 1, 12, tzinfo=UTC)
    event_id = uuid4()
    async with _opened(postgres_url) as (storage, connection):
        await publish(storage, python_event())
        offset = await _publish(
            connection,
            data='{"name": "ü", "n": 1.50}',
            event_id=event_id,
            originated_at=moment.isoformat(),
            gateway_id=" gateway-1\t",
        )
        assert offset == 2
        event = (await read(storage, after=1)).events[0]
        assert (event.gateway_id, event.offset, event.event_id) == (GATEWAY, 2, event_id)
        assert (event.type, event.action, event.entity_type, event.entity_id) == (
            "api.deployed",
            "CREATE",
            "Api",
            "api-1",
        )
        assert (event.originated_at, event.data) == (moment, {"name": "ü", "n": 1.5})


async def test_what_is_left_out_is_made(postgres_url: str) -> None:
    """The id, the time and the data have defaults, and NULL means the default."""
    async with _opened(postgres_url) as (storage, connection):
        assert await _publish(connection) == 1
        assert await _publish(connection, event_id=None, originated_at=None) == 2
        assert len(set(await ids_of(storage))) == 2
        assert [event.data for event in (await read(storage)).events] == [{}, {}]


@pytest.mark.parametrize("data_type", _TYPES)
async def test_the_data_may_be_of_any_type_that_holds_json(postgres_url: str, data_type: str | None) -> None:
    data = {"a": [1, 1.5, "ü", None], "b": {"c": True}}
    async with _opened(postgres_url) as (storage, connection):
        assert await _publish(connection, data_type=data_type, data=json.dumps(data), event_id=None) == 1
        query = f"SELECT gatecast.publish($1, 't', 'CREATE', 'T', 'e', $2{f'::{data_type}' if data_type else ''})"
        assert await connection.fetchval(query, GATEWAY, json.dumps(data)) == 2
        assert [event.data for event in (await read(storage)).events] == [data, data]


@pytest.mark.parametrize("data_type", _TYPES)
async def test_data_of_any_type_is_refused_alike(postgres_url: str, data_type: str | None) -> None:
    async with _opened(postgres_url) as (storage, connection):
        for data in (
            "[1]",
            None,
            '{"n": 1e400}',
            '{"a": ' * 40 + "1" + "}" * 40,
            f'{{"a": "{"x" * MAX_PAYLOAD_BYTES}"}}',
        ):
            with pytest.raises(asyncpg.CheckViolationError, match="data must"):
                await _publish(connection, data_type=data_type, data=data)
        assert (await read(storage)).head == 0


async def test_a_literal_and_what_a_query_makes_are_data(postgres_url: str) -> None:
    async with _opened(postgres_url) as (storage, connection):
        for data in (
            "'{\"a\": 1}'",
            "jsonb_build_object('a', 1)",
            "json_build_object('a', 1)",
            "'{}'::jsonb || '{\"a\": 1}'",
        ):
            await connection.execute(f"SELECT gatecast.publish('gateway-1', 't', 'CREATE', 'T', 'e', {data})")
        assert [event.data for event in (await read(storage)).events] == [{"a": 1}] * 4


async def test_a_change_may_be_traced(postgres_url: str) -> None:
    traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with _opened(postgres_url) as (storage, connection):
        await _publish(connection, trace_parent=traced)
        await _publish(connection, trace_parent=traced, data="{}")
        await _publish(connection, trace_parent=None)
        assert [event.trace_parent for event in (await read(storage)).events] == [traced, traced, None]


async def test_a_gateway_is_registered_in_sql(postgres_url: str) -> None:
    """Within the caller's transaction, under its trimmed id, once."""
    async with _opened(postgres_url) as (storage, connection):
        transaction = connection.transaction()
        await transaction.start()
        assert await connection.fetchval("SELECT gatecast.register_gateway(' new\t')") is True
        assert await _publish(connection, gateway_id="new") == 1
        await transaction.rollback()
        assert "new" not in (await storage.log.changed_since(0)).heads
        assert await connection.fetchval("SELECT gatecast.register_gateway('new')") is True
        assert await connection.fetchval("SELECT gatecast.register_gateway('new')") is False
        assert await storage.log.register("new") is False
        for wrong in ("", "\u200b", "x" * 256, None):
            with pytest.raises(asyncpg.CheckViolationError, match="gateway_id must"):
                await connection.fetchval("SELECT gatecast.register_gateway($1)", wrong)


async def test_s15_the_same_id_again_returns_the_first_offset(postgres_url: str) -> None:
    event_id = uuid4()
    async with _opened(postgres_url) as (storage, connection):
        assert await _publish(connection, event_id=event_id) == 1
        assert await _publish(connection) == 2
        assert await _publish(connection, event_id=event_id, data='{"other": true}') == 1
        assert (await read(storage)).events[0].data == {}


async def test_it_is_part_of_the_callers_transaction(postgres_url: str) -> None:
    async with _opened(postgres_url) as (storage, connection):
        transaction = connection.transaction()
        await transaction.start()
        await _publish(connection)
        assert (await read(storage)).head == 0
        await transaction.rollback()
        async with connection.transaction():
            await _publish(connection)
        assert (await read(storage)).head == 1


async def test_s17_an_unknown_gateway_is_refused(postgres_url: str) -> None:
    async with _opened(postgres_url) as (_, connection):
        with pytest.raises(asyncpg.ForeignKeyViolationError, match='gateway "nobody" is not registered'):
            await _publish(connection, gateway_id="nobody")


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("gateway_id", " \t\r\n", "gateway_id must not be blank"),
        ("gateway_id", None, "gateway_id must not be blank"),
        ("type", "", "type must not be blank"),
        ("entity_type", None, "entity_type must not be blank"),
        ("entity_id", "x" * 256, "entity_id must have at most 255 characters, not 256"),
        ("entity_id", "a\x1bb", "entity_id must hold only printable characters"),
        ("type", "a\nb", "type must hold only printable characters"),
        ("action", "create", "action must be one of"),
        ("action", None, "action must be one of"),
        ("data", "[1]", "data must be a JSON object"),
        ("data", "null", "data must be a JSON object"),
        ("data", None, "data must be a JSON object"),
        ("gateway_id", "\u00a0\u2003", "gateway_id must not be blank"),
        ("entity_id", "a\u202eb", "entity_id must hold only printable characters"),
        ("entity_type", "a\u200bb", "entity_type must hold only printable characters"),
        ("originated_at", "infinity", "originated_at must lie within the years 1 to 9999"),
        ("originated_at", "-infinity", "originated_at must lie within the years 1 to 9999"),
        ("originated_at", "20000-01-01", "originated_at must lie within the years 1 to 9999"),
        ("originated_at", "10000-01-01 00:00+00", "originated_at must lie within the years 1 to 9999"),
        ("originated_at", "0001-01-01 00:00+01", "originated_at must lie within the years 1 to 9999"),
        ("originated_at", "0044-03-15 BC", "originated_at must lie within the years 1 to 9999"),
        ("data", f'{{"n": {"9" * 5_000}}}', "data must hold integers of at most 64 bits"),
        ("data", '{"n": [9223372036854775808]}', "data must hold integers of at most 64 bits"),
        ("data", '{"n": 1e400}', "data must hold only numbers that a double can carry"),
        ("data", '{"n": -1e-400}', "data must hold only numbers that a double can carry"),
        ("data", f'{{"n": 1e{"9" * 50}}}', "data must hold only numbers that a double can carry"),
        ("data", '{"a": ' * 2_000 + "1" + "}" * 2_000, "data must be nested at most 32 deep"),
        ("data", '{"a": "\\ud800"}', "data must hold no NUL and no lone surrogate"),
        ("data", '{"\\udc00": 1}', "data must hold no NUL and no lone surrogate"),
        ("data", '{"a": "\\u0000"}', "data must hold no NUL and no lone surrogate"),
        ("trace_parent", "", "trace_parent must be a W3C traceparent"),
        ("trace_parent", f"ff-{'a' * 32}-{'b' * 16}-01", "trace_parent must be a W3C traceparent"),
        ("trace_parent", f"00-{'0' * 32}-{'b' * 16}-01", "trace_parent must be a W3C traceparent"),
        ("trace_parent", f"00-{'a' * 32}-{'b' * 16}-01\n", "trace_parent must be a W3C traceparent"),
        ("data", '{"a": 1, "b": [{"c": 1, "\\u0063": 2}]}', "data must name each key of an object once"),
    ],
)
async def test_what_the_library_refuses_is_refused(
    postgres_url: str, field: str, value: object, complaint: str
) -> None:
    async with _opened(postgres_url) as (storage, connection):
        with pytest.raises(asyncpg.CheckViolationError, match=complaint):
            await _publish(connection, **cast("dict[str, Any]", {field: value}))
        assert (await read(storage)).head == 0


async def test_s40_a_payload_over_the_limit_is_refused_with_its_size(postgres_url: str) -> None:
    """Counted in bytes, as the library does; exactly the limit is accepted."""
    frame = len(json.dumps({"a": ""}))
    largest = "ü" * ((MAX_PAYLOAD_BYTES - frame) // 2)
    async with _opened(postgres_url) as (storage, connection):
        assert await _publish(connection, data=f'{{"a": "{largest}"}}') == 1
        with pytest.raises(asyncpg.CheckViolationError, match="at most 1,048,576 bytes of JSON; it is 1048577 bytes"):
            await _publish(connection, data=f'{{"a": "{largest}ü"}}')
        assert (await read(storage)).head == 1


async def test_it_hints_at_its_gateway(postgres_url: str) -> None:
    heard: list[object] = []
    async with _opened(postgres_url) as (_, connection):
        await connection.add_listener("gatecast", lambda *notification: heard.append(notification[-1]))
        await _publish(connection)
        await connection.execute("SELECT 1")
        assert heard == ['["gateway-1"]']
