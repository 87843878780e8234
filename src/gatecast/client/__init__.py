"""The client side: what a gateway embeds to receive its events, and what programs embed to publish over HTTP."""

from gatecast.client.endpoint import Trust
from gatecast.client.gateway_client import ClientOptions, EventStream, GatewayClient, GatewayEvent, Reject
from gatecast.client.publisher import EventPublisher, Published
from gatecast.client.reconnecting import ReconnectTimes

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
