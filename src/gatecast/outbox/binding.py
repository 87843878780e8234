"""Binds an outbox to one log, so that nothing is forwarded into another one by mistake."""

from __future__ import annotations

from gatecast.errors import DatabaseUnsuitable
from gatecast.outbox.records import Records
from gatecast.storage.contract import EventLog

_REMEDY = (
    "open it with the URL of its own log; if it is to forward into this one from now on, run `gatecast outbox bind`"
)


async def bind(records: Records, log: EventLog, place: str) -> str:
    """The identity of the log that the outbox is bound to: this one, to which it is bound now if it was to none.

    Raises:
        DatabaseUnsuitable: it belongs to another log.
    """
    this, bound = str(await log.identity()), await records.forwarder()
    if (bound.log, bound.log_place) == (this, place):
        return this
    if not bound.log:
        await _check_never_used_elsewhere(records, log, named(this, place))
    if await records.bind(this, place):
        return this
    bound = await records.forwarder()
    raise DatabaseUnsuitable(
        f"the outbox forwards into the log {named(bound.log, bound.log_place)}, and this is {named(this, place)}",
        _REMEDY,
    )


async def rebind(records: Records, log: EventLog, place: str) -> str:
    """Let the outbox forward into this log from now on, waiting events included, and return the log's identity.

    The process that forwards into the previous log stops at once. Forwarded events stay where they are.

    Raises:
        DatabaseUnsuitable: it was bound to a third log meanwhile.
    """
    this, bound = str(await log.identity()), await records.forwarder()
    if bound.log == this:
        await records.bind(this, place)
    elif not await records.rebind(bound.log, this, place):
        raise DatabaseUnsuitable("the outbox was bound to another log meanwhile", "see `gatecast outbox status`")
    return this


async def _check_never_used_elsewhere(records: Records, log: EventLog, this: str) -> None:
    """Return if what was forwarded before outboxes were bound to logs was forwarded into this one.

    A log that does not record the histories between its first one and the present one, as on SQLite, knows these two.
    """
    epochs = await records.log_epochs()
    found = await log.changed_since(0)
    known = (await log.identity(), *found.lineage, found.epoch)
    if epochs and epochs.isdisjoint(map(str, known)):
        raise DatabaseUnsuitable(
            f"the outbox has forwarded into a log of the epoch {' and '.join(sorted(epochs))}, and this is {this}, of "
            f"the epoch {found.epoch}",
            _REMEDY,
        )


def named(log: str, place: str) -> str:
    """The log as an error or a command names it."""
    return f"{log} ({place})" if place else log
