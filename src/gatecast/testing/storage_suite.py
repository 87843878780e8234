"""The contract suite for storage backends: every sentence of `gatecast.storage.contract`, as a test.

Subclass `StorageContract` in a test module, override `open_storage` and `caller_transaction`, and let pytest collect
it::

    class TestMyStorage(StorageContract):
        @asynccontextmanager
        async def open_storage(self, tmp_path):
            async with MyStorage.open(tmp_path / "events.db") as storage:
                await storage.database.migrate()
                yield storage

The tests are coroutines that take pytest's `tmp_path`; a plugin or a small `conftest.py` must run them.
"""

from __future__ import annotations

from gatecast.testing.database_contract import DatabaseContract
from gatecast.testing.history_contract import HistoryContract
from gatecast.testing.hops_contract import HopsContract
from gatecast.testing.outcomes_contract import OutcomesContract
from gatecast.testing.parking_contract import ParkingContract
from gatecast.testing.positions_contract import PositionsContract
from gatecast.testing.presence_contract import PresenceContract
from gatecast.testing.publishing_contract import PublishingContract
from gatecast.testing.reading_contract import ReadingContract
from gatecast.testing.retention_contract import RetentionContract
from gatecast.testing.survey_contract import SurveyContract
from gatecast.testing.transaction_contract import TransactionContract

__all__ = ["StorageContract"]


class StorageContract(
    PublishingContract,
    TransactionContract,
    ReadingContract,
    HistoryContract,
    RetentionContract,
    PresenceContract,
    PositionsContract,
    OutcomesContract,
    HopsContract,
    ParkingContract,
    SurveyContract,
    DatabaseContract,
):
    """Everything that a storage backend promises."""
