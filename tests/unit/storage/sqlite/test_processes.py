"""Several processes on one file."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from gatecast.storage.migrations import available
from gatecast.storage.sqlite import SqliteStorage
from gatecast.storage.sqlite.storage import MIGRATIONS
from gatecast.testing.contracts.backend import GATEWAY, ids_of, make_event, publish

pytestmark = pytest.mark.slow

_MIGRATE = """
import asyncio, sys
from gatecast.storage.sqlite import SqliteStorage

async def main():
    sys.stdin.readline()
    async with SqliteStorage.open(sys.argv[1]) as storage:
        print(await storage.database.migrate())

print("ready", flush=True)
asyncio.run(main())
"""

_PUBLISH = """
import asyncio, sys
from uuid import UUID
from gatecast.storage.sqlite import SqliteStorage
from gatecast.testing.contracts.backend import make_event, publish

async def main():
    async with SqliteStorage.open(sys.argv[1]) as storage:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(60):
            receipts = await publish(storage, make_event(event_id=UUID(int=number)), make_event())
            print(*(receipt.position.offset for receipt in receipts if receipt.created))

asyncio.run(main())
"""

_HANG_IN_FAN_OUT = """
import asyncio, sys
from gatecast.storage.sqlite import SqliteStorage
from gatecast.testing.contracts.backend import make_event

async def main():
    async with SqliteStorage.open(sys.argv[1]) as storage:
        async with storage.database.transaction() as transaction:
            for number in range(500):
                await storage.log.publish_in(transaction, [make_event(f"gateway-{number}")])
            print("ready", flush=True)
            sys.stdin.readline()

asyncio.run(main())
"""


async def _start(script: str, file: Path) -> Process:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(file), stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def _go_together(script: str, file: Path, count: int) -> list[str]:
    """What processes print that begin at the same moment."""
    processes = [await _start(script, file) for _ in range(count)]
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0] * count
    return [output.decode() for output, _ in outputs]


async def test_processes_that_start_at_once_migrate_once(file: Path) -> None:
    outputs = await _go_together(_MIGRATE, file, 4)
    numbers = [migration.number for migration in available(MIGRATIONS)]
    assert sorted(output.strip() for output in outputs) == [str(numbers), "[]", "[]", "[]"]


async def test_s15_processes_that_publish_at_once_store_each_id_once(file: Path) -> None:
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)
        outputs = await _go_together(_PUBLISH, file, 2)
        created = sorted(int(offset) for output in outputs for offset in output.split())
        # 60 shared ids and twice 60 ids of their own.
        assert created == list(range(1, 181))
        assert len(set(await ids_of(storage))) == 180


async def test_s06_a_process_killed_in_the_middle_of_a_fan_out_leaves_nothing(file: Path) -> None:
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        async with storage.database.transaction() as transaction:
            for number in range(500):
                await storage.log.register(f"gateway-{number}", transaction=transaction)
        process = await _start(_HANG_IN_FAN_OUT, file)
        process.kill()
        await process.communicate()
        assert set((await storage.log.changed_since(0)).heads.values()) == {0}
        await publish(storage, make_event("gateway-7"))
        assert len(await ids_of(storage, "gateway-7")) == 1
