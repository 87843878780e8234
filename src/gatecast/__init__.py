"""Gatecast: durable, ordered, confirmed delivery of configuration changes to gateways.

async with EventHub.open("postgresql://…") as hub:
    await hub.publish(Event(gateway_id="gw-1", type="route.changed", action=Action.UPDATE, …))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gatecast.errors import GatecastError, InvalidValue, PositionLost, StorageUnavailable, UnknownGateway
from gatecast.events import Action, Event, Position, RecordedEvent
from gatecast.version import __version__

if TYPE_CHECKING:
    from gatecast.hub import EventHub
    from gatecast.settings import Settings
    from gatecast.storage.publish_sync import publish_sync

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
    "publish_sync",
]


#: Imported when they are used: a gateway or a command needs no database driver.
_LATER = {"EventHub": "gatecast.hub", "Settings": "gatecast.settings", "publish_sync": "gatecast.storage.publish_sync"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - one of the above
    """What is imported when it is used."""
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
