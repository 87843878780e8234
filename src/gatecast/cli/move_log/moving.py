"""Moves a log to another place, while pods run: to a database with everything beside it, or alone to a stream.

First nobody may change the log any more; then what is left of it is copied, and the target adopts its history. The
target has the log's epoch exactly if that has happened, which is how an interrupted move is recognized: it is repeated,
or undone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID, uuid4

from gatecast.cli.move_log.source import Source
from gatecast.errors import DatabaseUnsuitable, StorageError
from gatecast.storage.contract import EventLog
from gatecast.storage.moved import Blocking


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The result of a move."""

    #: The history, which continues.
    epoch: UUID
    #: How many rows of each table were moved; empty: an earlier run had moved them already.
    rows: dict[str, int] = field(default_factory=dict)


class MoveUncertain(StorageError):
    """It is unknown whether the move was committed; until it is known, no program can change the log."""

    def __str__(self) -> str:
        return (
            "the target does not say whether the log has arrived there, so the log stays closed for now; repeat the "
            "command to finish, or add --undo to give up"
        )


class Target(Protocol):
    """Where a log is moved to."""

    async def moved_before(self) -> UUID | None:
        """The epoch of the log that an earlier run has moved from there to here; None: none has ended.

        Raises:
            DatabaseUnsuitable: it was moved to another place.
        """

    async def epoch(self) -> UUID:
        """The identity of its history."""

    async def name(self, known: UUID | None) -> UUID:
        """What it is called by a log that is moved to it (`known` if it is moved to something)."""

    async def prepare(self, source: Source) -> None:
        """Check that it suits, and copy what can be copied while the log still changes.

        Raises:
            DatabaseUnsuitable: it is not empty, or is in use.
        """

    async def take(self, source: Source, blocking: Blocking) -> dict[str, int]:
        """Copy what is left, and adopt the history; how many rows of each table. Empty: another run was faster.

        Raises:
            DatabaseUnsuitable: the log is moved to another place by now, or may have been changed meanwhile.
        """

    async def call_off(self, epoch: UUID) -> bool:
        """Whether the log has not arrived, and will not by what this run has sent.

        Raises:
            StorageError: it cannot be asked.
        """

    async def finish(self, source: Source, blocking: Blocking) -> bool:
        """Let what the log came from be used for nothing but what is left of it; False: that had been done before.

        Raises:
            DatabaseUnsuitable: it is not blocked for this target, or was changed since it was copied.
        """

    async def give_up(self, source: Source) -> bool:
        """Remove what was copied; False: nothing was.

        Raises:
            DatabaseUnsuitable: the log has arrived.
        """


async def move(source: Source, target: Target) -> Moved:
    """Move the log to the target; repeat it if it was interrupted.

    Raises:
        DatabaseUnsuitable: one of them is not of the right kind, or is not empty, or is in use.
        MoveUncertain: the connection to the target was lost when it adopted the history.
        StorageError: something failed; the log is as before.
    """
    if (moved := await target.moved_before()) is not None:
        return Moved(epoch=moved)
    epoch, blocking = await source.epoch(), await source.blocking()
    if await target.epoch() == epoch:
        if blocking is None:
            raise DatabaseUnsuitable("it has a copy of this log, which was changed since", "name an empty database")
        await target.finish(source, blocking)
        return Moved(epoch=epoch)
    there = await target.name(blocking.target if blocking is not None else None)
    if blocking is None:
        # Refused before any writer has to wait.
        await target.prepare(source)
    else:
        check_blocking(blocking, there)
    ours = Blocking(target=there, run=uuid4())
    try:
        await source.block(ours)
        rows = await target.take(source, ours)
        epoch = await source.epoch()
    except BaseException:
        await _open_again(source, target, ours.run)
        raise
    await target.finish(source, ours)
    return Moved(epoch=epoch, rows=rows)


async def undo(source: Source, target: Target) -> bool:
    """Give a move up, so that everybody may change the log again; False: none has begun.

    Raises:
        DatabaseUnsuitable: the log has arrived in the target, or is moved to another one.
        StorageError: that is unknown now.
    """
    if await target.moved_before() is not None:
        raise DatabaseUnsuitable("the log has arrived in the target", "use it there")
    blocking = await source.blocking()
    if blocking is not None:
        if await target.epoch() == await source.epoch():
            raise DatabaseUnsuitable("the log has arrived in the target", "use it there")
        check_blocking(blocking, await target.name(blocking.target))
    # Nobody copies any more, or has the log arrive, when this returns.
    copied = await target.give_up(source)
    if blocking is not None:
        await source.unblock(blocking.run)
    return copied or blocking is not None


async def abandon(source: Source, log: EventLog) -> bool:
    """Let everybody change the log again, although what it was moved to is gone; False: no move has begun.

    A new history begins: what may have been published there is lost, so gateways resynchronize.
    """
    blocking = await source.blocking()
    if blocking is None:
        return False
    await source.unblock(blocking.run)
    await log.renew_epoch(await source.epoch())
    return True


def check_blocking(blocking: Blocking | None, there: UUID) -> None:
    """Return if the log is moved to the target of this name: in two of them the same history would go on.

    Raises:
        DatabaseUnsuitable: it is moved to another one, or not any more.
    """
    if blocking is None or blocking.target != there:
        raise DatabaseUnsuitable(
            "the log is being moved to another database or stream",
            "name that one with --to; if it is gone for good, add --undo --target-lost",
        )


async def _open_again(source: Source, target: Target, run: UUID) -> None:
    """After a failure: let everybody change the log again, unless it has arrived nevertheless.

    What another run has blocked is left to that one.

    Raises:
        MoveUncertain: it is unknown whether it has arrived.
    """
    try:
        if await target.call_off(await source.epoch()):
            await source.unblock(run)
    except StorageError as error:
        raise MoveUncertain from error
