"""The client side: what a gateway embeds to receive its events, and what programs embed to publish over HTTP."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gatecast.extras import require

if TYPE_CHECKING:
    from gatecast.client.endpoint import Trust
    from gatecast.client.gateway_client import ClientOptions, EventStream, GatewayClient, GatewayEvent, Reject
    from gatecast.client.publisher import EventPublisher, Published
    from gatecast.client.reconnecting import ReconnectTimes

require("client")

__all__ = [
    "ClientOptions",
    "EventPublisher",
    "EventStream",
    "GatewayClient",
    "GatewayEvent",
    "Published",
    "ReconnectTimes",
    "Reject",
    "Trust",
]

_MODULES = {
    "Trust": "endpoint",
    "EventPublisher": "publisher",
    "Published": "publisher",
    "ReconnectTimes": "reconnecting",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - one of the classes above
    """Imported when it is used: a command that publishes over HTTP needs no protocol."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'gateway_client')}"), name)
