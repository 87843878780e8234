"""A gateway that knows nothing of Gatecast, as a simulation that is faithful to the real gateway-controller."""

from gatecast.testing.unmodified_gateway.api_keys import ApiKey
from gatecast.testing.unmodified_gateway.artifacts import CONTROL_PLANE, DEPLOYED, GATEWAY, UNDEPLOYED, Artifact
from gatecast.testing.unmodified_gateway.gateway import UnmodifiedGateway
from gatecast.testing.unmodified_gateway.messages import Received
from gatecast.testing.unmodified_gateway.options import GatewayOptions
from gatecast.testing.unmodified_gateway.own_artifacts import OwnArtifact, template
from gatecast.testing.unmodified_gateway.steps import DrawnOrder, Gates, Schedule, ScriptedOrder
from gatecast.testing.unmodified_gateway.yaml_values import Rejected

__all__ = [
    "CONTROL_PLANE",
    "DEPLOYED",
    "GATEWAY",
    "UNDEPLOYED",
    "ApiKey",
    "Artifact",
    "DrawnOrder",
    "Gates",
    "GatewayOptions",
    "OwnArtifact",
    "Received",
    "Rejected",
    "Schedule",
    "ScriptedOrder",
    "UnmodifiedGateway",
    "template",
]
