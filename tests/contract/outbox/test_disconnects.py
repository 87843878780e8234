"""Disconnects that commit with a change: every process finds its own connections among them, once, and misses none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gatecast.outbox import disconnects
from gatecast.outbox.disconnects import Disconnects
from gatecast.outbox.records import MIGRATIONS
from gatecast.storage.connect import open_storage
from gatecast.storage.contract import Connection, Database
from gatecast.testing.contracts.backend import rolled_back
from gatecast.testing.eventually import PATIENCE


@dataclass(slots=True)
class _Open:
    """A connection, and why it was ended."""

    connection: Connection
    ended: list[str] = field(default_factory=list)

    def end_with(self, reason: str) -> None:
        self.ended.append(reason)


def _connection(gateway_id: str, token_id: str | None) -> _Open:
    return _Open(
        Connection(
            connection_id=f"{gateway_id}-{token_id}",
            gateway_id=gateway_id,
            replica="",
            pod_id="pod-1",
            protocol="gateway.v1",
            remote="",
            token_id=token_id,
        )
    )


@asynccontextmanager
async def _database(outbox_url: str) -> AsyncIterator[Database]:
    async with (
        asyncio.timeout(PATIENCE),
        open_storage(outbox_url, send_hints=False, extra_migrations=(MIGRATIONS,)) as opened,
    ):
        await opened.storage.database.migrate()
        yield opened.storage.database


async def _note(database: Database, **names: str) -> None:
    async with database.transaction() as transaction:
        await Disconnects(database).note(transaction, **names)


async def test_p9_who_uses_the_token_or_is_the_gateway_is_ended_once_the_transaction_commits(outbox_url: str) -> None:
    """Nobody else is, what was noted before the first look concerns nobody, and what is rolled back never was."""
    async with _database(outbox_url) as database:
        await _note(database, token_id="t-1")
        here = Disconnects(database)
        one, other, deleted, library = those = [
            _connection("gw-1", "t-1"),
            _connection("gw-1", "t-2"),
            _connection("gw-2", "t-3"),
            _connection("gw-3", None),
        ]
        await here.apply(lambda: those)
        async with rolled_back(database.transaction()) as transaction:
            await here.note(transaction, token_id="t-2")
        await here.apply(lambda: those)
        assert [each.ended for each in those] == [[], [], [], []]
        await _note(database, token_id="t-1")
        await _note(database, gateway_id="gw-2")
        for _ in range(2):
            await here.apply(lambda: those)
        assert (one.ended, other.ended, deleted.ended, library.ended) == (
            ["token-revoked"],
            [],
            ["gateway-deleted"],
            [],
        )


async def test_p9_transactions_that_commit_out_of_turn_are_all_found(outbox_url: str) -> None:
    """The second one waits for the first, so that no look between the two passes a number that comes later."""
    async with _database(outbox_url) as database:
        here, one, other = Disconnects(database), _connection("gw-1", "t-1"), _connection("gw-2", "t-2")
        await here.apply(lambda: [one, other])
        async with database.transaction() as transaction:
            await here.note(transaction, token_id="t-1")
            later = asyncio.create_task(_note(database, token_id="t-2"))
            await asyncio.sleep(0)
            await here.apply(lambda: [one, other])
            assert (one.ended, other.ended, later.done()) == ([], [], False)
        await later
        await here.apply(lambda: [one, other])
        assert (one.ended, other.ended) == (["token-revoked"], ["token-revoked"])


async def test_p9_who_has_missed_more_than_is_kept_ends_everybody(
    outbox_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come back if they may."""
    monkeypatch.setattr(disconnects, "_KEPT", 2)
    async with _database(outbox_url) as database:
        here, one = Disconnects(database), _connection("gw-1", "t-1")
        await here.apply(lambda: [one])
        for number in range(3):
            await _note(database, token_id=f"other-{number}")
        await here.apply(lambda: [one])
        assert one.ended == ["restarting"]
        await _note(database, token_id="another")
        await here.apply(lambda: [one])
        assert one.ended == ["restarting"]


async def test_p9_after_a_restore_everybody_is_ended_and_later_ones_are_found(outbox_url: str) -> None:
    """The numbers begin lower again."""
    async with _database(outbox_url) as database:
        here, one = Disconnects(database), _connection("gw-1", "t-1")
        await _note(database, token_id="other")
        await here.apply(lambda: [one])
        await database.execute("DELETE FROM gatecast_outbox_disconnects")
        await database.execute("UPDATE gatecast_outbox_disconnected SET number = 0")
        await here.apply(lambda: [one])
        assert one.ended == ["restarting"]
        await _note(database, token_id="t-1")
        await here.apply(lambda: [one])
        assert one.ended == ["restarting", "token-revoked"]


@pytest.mark.parametrize("seen", [6, 10])
@pytest.mark.parametrize("noted", [1, 5, 8])
async def test_p9_after_a_restore_numbers_that_are_used_again_hide_nothing(
    outbox_url: str, seen: int, noted: int
) -> None:
    """However many were noted since; a process that could not ask meanwhile ends everybody once."""
    async with _database(outbox_url) as database:
        here = Disconnects(database)
        for number in range(seen):
            await _note(database, token_id=f"before-{number}")
        await here.apply(tuple)
        await database.execute("DELETE FROM gatecast_outbox_disconnects WHERE number > 5")
        await database.execute("UPDATE gatecast_outbox_disconnected SET number = 5")
        for number in range(noted):
            await _note(database, token_id=f"after-{number}")
        one, other = _connection("gw-1", "after-0"), _connection("gw-2", "t-2")
        await here.apply(lambda: [one, other])
        assert (one.ended[0], other.ended) == ("restarting", ["restarting"])
        await _note(database, token_id="t-2")
        await here.apply(lambda: [other])
        assert other.ended == ["restarting", "token-revoked"]


async def test_p9_a_table_that_somebody_has_emptied_ends_everybody_once(outbox_url: str) -> None:
    """And not with every look."""
    async with _database(outbox_url) as database:
        here, one = Disconnects(database), _connection("gw-1", "t-1")
        await _note(database, token_id="other")
        await here.apply(tuple)
        await database.execute("DELETE FROM gatecast_outbox_disconnects")
        for _ in range(3):
            await here.apply(lambda: [one])
        assert one.ended == ["restarting"]
        await _note(database, token_id="t-1")
        await here.apply(lambda: [one])
        assert one.ended == ["restarting", "token-revoked"]
