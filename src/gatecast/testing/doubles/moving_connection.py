"""A connection that makes progress, for tests of the code that stores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gatecast.storage.contract import Connection, Progress
from gatecast.telemetry.traces import Traced
from gatecast.testing.contracts.backend import make_connection


@dataclass
class MovingConnection:
    """A connection at the position that a test sets."""

    #: What it tells.
    progress: Progress
    #: What could not be stored.
    given_back: list[Progress] = field(default_factory=list)

    @property
    def connection(self) -> Connection:
        """The connection."""
        return make_connection(self.progress.connection_id, self.progress.gateway_id)

    def take_progress(self) -> Progress:
        """How far it has come."""
        return self.progress

    def take_traced(self) -> Sequence[Traced]:
        """Nothing of it is traced."""
        return ()

    def give_back(self, progress: Progress) -> None:
        """Keep what could not be stored."""
        self.given_back.append(progress)
