"""The record of a new connection."""

from __future__ import annotations

from dataclasses import dataclass

from gatecast.events import Position
from gatecast.storage.contract import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRequest:
    """The arguments of `gatecast.storage.contract.Presence.connect`, as one value of a batch."""

    connection: Connection
    start: Position
    resync_reason: str | None
    newest_only: bool
