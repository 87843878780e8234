"""The calls with which a gateway synchronizes after it has connected, whichever pod they reach.

An unmodified gateway handles events beside these calls, in every order (gateway-protocol.md section 6). So its events
wait until it has read everything: `gatecast.server.gateway_api.holding` decides when, from what is kept here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from gatecast.controlplane.transactions.timestamps import instant, instant_or_none
from gatecast.storage.contract import Database, LiveConnection, Row, Transaction
from gatecast.storage.gathered_rows import gathered_rows
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.controlplane.gateway_sync", "synchronizations.sql")


#: Calls belong to a connection if the first one comes this soon after it; plain clients never call.
FIRST_CALL_WITHIN = timedelta(seconds=0.5)

#: The calls of a connection begin at most this long after it: a call takes a while to become known.
BELONG_WITHIN = 2 * FIRST_CALL_WITHIN

#: A gateway that has not called for this long has given up, in seconds.
QUIET_FOR = 10.0

#: Events wait no longer than this, in seconds.
AT_MOST = 60.0

#: Seconds after the last list within which what a gateway has read is examined.
_LOOKED_AT_WITHIN = 1.0


class Call(StrEnum):
    """A call of a gateway, as far as the order of its calls matters."""

    #: The secrets: the first call.
    FIRST = "begin_synchronization"
    #: The list of deployments: its process has just started.
    LIST = "note_listed"
    OTHER = "note_call"
    #: The keys of LLM proxies: the last call. Noted once it is answered.
    LAST = "finish_synchronization"


@dataclass(frozen=True, slots=True, kw_only=True)
class Synchronization:
    """The newest start-up calls of a gateway; ages in seconds, by the clock of the database."""

    #: Rises with every first call.
    number: int
    #: The first call.
    began_at: datetime
    #: Since then.
    began: float
    #: Since the latest call.
    called: float
    #: Since the last list was answered; None: it was not yet.
    finished: float | None
    #: True when the gateway's process has just started: it asked for the list of deployments.
    listed: bool
    #: True when it was given its secrets.
    secrets_read: bool
    #: True when it has shown that its database is a new one, and nothing was done about that yet.
    began_anew: bool

    @property
    def goes_on(self) -> bool:
        """Whether its gateway still reads."""
        return self.finished is None and self.called < QUIET_FOR and self.began < AT_MOST

    @property
    def is_over(self) -> bool:
        """Whether its gateway has read everything, or given up, and what that left open was looked at."""
        return not self.goes_on and (self.finished is None or self.finished > _LOOKED_AT_WITHIN)

    def belongs_to(self, connection: LiveConnection) -> bool:
        """Whether it began so soon after this connection that its events wait."""
        return timedelta() <= self.began_at - connection.connected_at <= BELONG_WITHIN


class Synchronizations:
    """Notes what gateways call."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: Every connection asks when it begins, and again while its gateway synchronizes.
        self._newest = gathered_rows(database, _QUERIES["synchronizations"], "gateway_id")

    async def note(self, gateway_id: str, call: Call) -> None:
        """Note a call that arrived, or, for the last one, that was answered.

        Raises:
            StorageUnavailable: the database is away.
        """
        await self._database.execute(_QUERIES[call], gateway_id)

    async def note_secrets_read(self, gateway_id: str) -> None:
        """Note that the gateway was given its secrets."""
        await self._database.execute(_QUERIES["note_secrets_read"], gateway_id)

    async def of_gateway(self, gateway_id: str) -> Synchronization | None:
        """The newest start-up calls of a gateway; None: it has never made any."""
        for row in await self._newest.ask(gateway_id):
            return _synchronization(row)
        return None


def _synchronization(row: Row) -> Synchronization:
    now, began, finished = instant(row["at"]), instant(row["began_at"]), instant_or_none(row["finished_at"])
    return Synchronization(
        number=row["number"],
        began_at=began,
        began=(now - began).total_seconds(),
        called=(now - instant(row["called_at"])).total_seconds(),
        finished=None if finished is None else (now - finished).total_seconds(),
        listed=bool(row["listed"]),
        secrets_read=bool(row["secrets_read"]),
        began_anew=bool(row["began_anew"]),
    )


async def note_delivered(transaction: Transaction, gateway_id: str, number: int) -> None:
    """A gateway without data has read everything in its synchronization of this number."""
    await transaction.execute(_QUERIES["note_delivered"], gateway_id, number)


async def forget_new_database(transaction: Transaction, gateway_id: str) -> None:
    """Note that everything missing in a gateway's new database was published."""
    await transaction.execute(_QUERIES["forget_new_database"], gateway_id)
