"""Gatecast: durable, ordered, confirmed delivery of configuration changes to gateways.

async with EventHub.open("postgresql://…") as hub:
    await hub.publish(Event(gateway_id="gw-1", type="route.changed", action=Action.UPDATE, …))
"""

from gatecast.errors import GatecastError, InvalidValue, PositionLost, StorageUnavailable, UnknownGateway
from gatecast.events import Action, Event, Position, RecordedEvent
from gatecast.hub import EventHub
from gatecast.settings import Settings
from gatecast.version import __version__

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
