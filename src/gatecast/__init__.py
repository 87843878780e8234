"""Gatecast: durable, ordered, confirmed delivery of configuration changes to gateways.

async with EventHub.open("postgresql://…") as hub:
    await hub.publish(Event(gateway_id="gw-1", type="route.changed", action=Action.UPDATE, …))
"""

from typing import TYPE_CHECKING, Any

from gatecast.errors import GatecastError, InvalidValue, PositionLost, StorageUnavailable, UnknownGateway
from gatecast.events import Action, Event, Position, RecordedEvent
from gatecast.version import __version__

if TYPE_CHECKING:
    from gatecast.hub import EventHub
    from gatecast.settings import Settings

__all__ = [
    "Action",
    "Event",
    "EventHub",
    "GatecastError",
    "InvalidValue",
    "Position",
    "PositionLost",
    "RecordedEvent",
    "Settings",
    "StorageUnavailable",
    "UnknownGateway",
    "__version__",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - one of two classes
    """The hub and its settings are imported when they are used: a gateway or a command needs no database driver."""
    if name == "EventHub":
        from gatecast.hub import EventHub  # noqa: PLC0415 - see above

        return EventHub
    if name == "Settings":
        from gatecast.settings import Settings  # noqa: PLC0415 - see above

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
