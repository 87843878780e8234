"""A gateway that knows nothing of Gatecast, as a simulation that is faithful to the real gateway-controller."""

from gatecast.testing.unmodified_gateway.api_keys import ApiKey
from gatecast.testing.unmodified_gateway.artifacts import DEPLOYED, UNDEPLOYED, Artifact
from gatecast.testing.unmodified_gateway.gateway import UnmodifiedGateway
from gatecast.testing.unmodified_gateway.messages import Received
from gatecast.testing.unmodified_gateway.options import GatewayOptions

__all__ = ["DEPLOYED", "UNDEPLOYED", "ApiKey", "Artifact", "GatewayOptions", "Received", "UnmodifiedGateway"]
