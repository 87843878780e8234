"""Standbys that take over without what was decided last: the pod that settles them may remember nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from gatecast.delivery.history_watch import HistoryWatch
from gatecast.testing.eventually import PATIENCE
from gatecast.testing.virtual_time import run_in_virtual_time
from simulation.database import SimulatedDatabase, SimulatedStorage
from simulation.history import History


class _Installation:
    """A database, and the pods' looks at it."""

    def __init__(self) -> None:
        self.database = SimulatedDatabase(random.Random(1), History(), lambda _: None)  # noqa: S311 - repeats
        self.elder = self.pod()

    def pod(self) -> HistoryWatch:
        """One that has not looked yet."""
        return HistoryWatch(cast("Any", SimulatedStorage(self.database).log))

    async def begin(self, *, synchronous: bool) -> None:
        """Record whether commits wait for a standby."""
        self.database.synchronous = synchronous
        await self.elder.look(at_everything=False)


def _run(work: Coroutine[Any, Any, None]) -> None:
    run_in_virtual_time(asyncio.wait_for(work, PATIENCE))


def test_s20_p6_a_history_that_has_ended_is_not_continued_on_a_standby_that_never_learned_of_its_end() -> None:
    """The one who looks first there remembers neither history; the others have read both."""

    async def run() -> None:
        world = _Installation()
        await world.begin(synchronous=True)
        old, standby = world.database.rows.epoch, world.database.backup()
        world.database.history.shaken.add(old)
        await SimulatedStorage(world.database).log.renew_epoch(old)
        ended = (await world.elder.look(at_everything=True)).epoch
        world.database.fail_over(standby, certain=False)
        assert (await world.pod().look(at_everything=True)).epoch == old
        assert (await world.elder.look(at_everything=True)).epoch not in (old, ended)

    _run(run())


def test_s20_p6_a_record_that_lacks_that_commits_ceased_to_wait_is_not_the_last_word() -> None:
    """1. Commits wait. 2. The standby stays back. 3. They wait no more. 4. It takes over, and a new pod believes it."""

    async def run() -> None:
        world = _Installation()
        await world.begin(synchronous=True)
        epoch, standby = world.database.rows.epoch, world.database.backup()
        await world.begin(synchronous=False)
        world.database.history.shaken.add(epoch)
        world.database.fail_over(standby, certain=False)
        assert (await world.pod().look(at_everything=True)).epoch == epoch
        renewed = (await world.elder.look(at_everything=True)).epoch
        assert renewed != epoch
        assert (await world.pod().look(at_everything=True)).epoch == renewed

    _run(run())


@pytest.mark.parametrize("servers", [1, 2])
def test_s20_p6_a_record_speaks_of_the_next_server_alone(servers: int) -> None:
    """Of one in between, which nobody settled, it says nothing."""

    async def run() -> None:
        world = _Installation()
        await world.begin(synchronous=True)
        epoch = world.database.rows.epoch
        for _ in range(servers):
            world.database.fail_over(world.database.backup(), certain=servers == 1)
        assert ((await world.pod().look(at_everything=True)).epoch == epoch) is (servers == 1)

    _run(run())


def test_pods_that_know_different_decisions_end_one_history_once() -> None:
    """The new history is new to each of them, and nobody resynchronizes twice."""

    async def run() -> None:
        world = _Installation()
        await world.begin(synchronous=True)
        other, standby = world.pod(), world.database.backup()
        await other.look(at_everything=True)
        await world.begin(synchronous=False)
        world.database.history.shaken.add(world.database.rows.epoch)
        world.database.fail_over(standby, certain=False)
        await world.pod().look(at_everything=True)
        renewed = (await world.elder.look(at_everything=True)).epoch
        for pod in (other, world.elder, world.pod()):
            assert (await pod.look(at_everything=True)).epoch == renewed

    _run(run())


def test_a_restore_that_the_operator_tells_of_is_believed() -> None:
    """It lacks decisions as well, but its history is new to everybody."""

    async def run() -> None:
        world = _Installation()
        backup = world.database.backup()
        await world.begin(synchronous=True)
        world.database.restore(backup)
        restored = world.database.rows.epoch
        assert (await world.elder.look(at_everything=True)).epoch == restored

    _run(run())
