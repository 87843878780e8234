"""The contract suite for storage backends: every sentence of `gatecast.storage.contract`, as a test.

Subclass `StorageContract` in a test module, override `open_storage` and `caller_transaction`, and let pytest collect
it::

    class TestMyStorage(StorageContract):
        @asynccontextmanager
        async def open_storage(self, tmp_path):
            async with MyStorage.open(tmp_path / "events.db") as storage:
                await storage.database.migrate()
                yield storage

`EngineContract` is the part that every engine keeps; `StorageContract` adds what needs an SQL database and the caller's
own transaction. For an engine without one, subclass `EngineContract`, and override `open_storage`. An engine that
records when events pass their hops also keeps `HopsContract`; subclass it as well, and override `stored_passages`.
`TransactionContract` holds for an engine with an outbox, too; then override `caught_up` and `offsets` as well.

The tests are coroutines that take pytest's `tmp_path`; a plugin or a small `conftest.py` must run them.
"""

from __future__ import annotations

from gatecast.testing.contracts.database import DatabaseContract
from gatecast.testing.contracts.history import HistoryContract
from gatecast.testing.contracts.hops import HopsContract
from gatecast.testing.contracts.outcomes import OutcomesContract
from gatecast.testing.contracts.parking import ParkingContract
from gatecast.testing.contracts.places import PlacesContract
from gatecast.testing.contracts.positions import PositionsContract
from gatecast.testing.contracts.presence import PresenceContract
from gatecast.testing.contracts.publishing import PublishingContract
from gatecast.testing.contracts.reading import ReadingContract
from gatecast.testing.contracts.registering import RegisteringContract
from gatecast.testing.contracts.retention import RetentionContract
from gatecast.testing.contracts.survey import SurveyContract
from gatecast.testing.contracts.transactions import RevocationContract, TransactionContract

__all__ = ["EngineContract", "HopsContract", "StorageContract", "TransactionContract"]


class EngineContract(
    PublishingContract,
    ReadingContract,
    PlacesContract,
    HistoryContract,
    RegisteringContract,
    RetentionContract,
    PresenceContract,
    PositionsContract,
    OutcomesContract,
    ParkingContract,
    SurveyContract,
):
    """Everything that an engine promises, whatever it keeps the log in."""


class StorageContract(TransactionContract, RevocationContract, DatabaseContract, HopsContract, EngineContract):
    """Everything that an engine on an SQL database promises."""
