"""The storage contracts: what every engine promises.

An engine keeps the log. Its five small contracts share one store, so that they change together:

- `EventLog`: one log of events per gateway, numbered in commit order.
- `Presence`: which pods are alive, which connections they hold, and what each connection has confirmed.
- `Outcomes`: what gateways reported about single events.
- `Parking`: entities whose events wait for an operator's decision.
- `Survey`: questions about many gateways or much of a log.

`Storage` is an engine on an SQL database. It also offers that `Database`, in which the control plane keeps its own
tables, and whose transactions a publish can join (promise P8).

Every method may raise `StorageUnavailable` if the engine cannot be reached now, `SchemaMissing` if it is not migrated,
and `StatementFailed` if it refuses a statement; `Raises:` repeats these only where they mean something particular. The
suites in `gatecast.testing.storage_suite` hold every engine to these contracts.
"""

from __future__ import annotations

from typing import Protocol

from gatecast.storage.contract.database import Database, Row, Transaction
from gatecast.storage.contract.log import (
    Busy,
    Changes,
    Claim,
    EventLog,
    Place,
    PublishResult,
    ReadRequest,
    ReadResult,
    Receipt,
    Remembered,
    TrimPass,
    TrimPolicy,
    Verdict,
)
from gatecast.storage.contract.outcomes import Outcome, OutcomeKind, Outcomes
from gatecast.storage.contract.parking import DeliveryFilter, Entity, ParkedEntity, Parking
from gatecast.storage.contract.presence import (
    Connection,
    DisconnectReason,
    GatewayStatus,
    LiveConnection,
    LivePod,
    PositionState,
    Presence,
    Progress,
)
from gatecast.storage.contract.survey import DeliverySummary, EventSearch, FoundEvents, GatewayCount, Survey

__all__ = [
    "Busy",
    "Changes",
    "Claim",
    "Connection",
    "Database",
    "DeliveryFilter",
    "DeliverySummary",
    "DisconnectReason",
    "Engine",
    "Entity",
    "EventLog",
    "EventSearch",
    "FoundEvents",
    "GatewayCount",
    "GatewayStatus",
    "LiveConnection",
    "LivePod",
    "Outcome",
    "OutcomeKind",
    "Outcomes",
    "ParkedEntity",
    "Parking",
    "Place",
    "PositionState",
    "Presence",
    "Progress",
    "PublishResult",
    "ReadRequest",
    "ReadResult",
    "Receipt",
    "Remembered",
    "Row",
    "Storage",
    "Survey",
    "Transaction",
    "TrimPass",
    "TrimPolicy",
    "Verdict",
]


class Engine(Protocol):
    """The open log of events, and every contract on it."""

    @property
    def log(self) -> EventLog:
        """The event logs."""

    @property
    def presence(self) -> Presence:
        """The pods, connections and positions."""

    @property
    def outcomes(self) -> Outcomes:
        """The outcomes of single events."""

    @property
    def parking(self) -> Parking:
        """The parked entities."""

    @property
    def survey(self) -> Survey:
        """The questions about many gateways or much of a log."""


class Storage(Engine, Protocol):
    """An engine on an open SQL database."""

    @property
    def database(self) -> Database:
        """The database itself."""
