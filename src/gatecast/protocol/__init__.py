"""The gateway protocol, without I/O: frames and `now` come in, frames and actions go out.

- `session`: the server's side of one connection, for unmodified gateways and for `gatecast.v2`
- `client_session`: the client's side of `gatecast.v2`
- `messages`: what either side says, as values; `codec`: those values to text and back
- `close_codes`: why a connection ends, and whether to come back
- `window`, `heartbeat`, `deployments`, `token_bucket`: what a server session remembers, one thing each
- `instants`: times on the wire
- `asyncapi.yaml`: the same protocol for people and other languages; tests hold it to the code
"""

from gatecast.protocol.client_session import (
    ClientAction,
    ClientLimits,
    ClientSession,
    Delivered,
    Resynchronize,
    SendPong,
    Welcomed,
)
from gatecast.protocol.close_codes import CLOSE_CODES, CloseCode, for_number, for_reason
from gatecast.protocol.messages import DeploymentAck, EventReject, PositionAck
from gatecast.protocol.session import (
    Acknowledged,
    Close,
    Confirmed,
    Opening,
    Rejected,
    ResyncDone,
    SendPing,
    SendText,
    ServerSession,
    SessionAction,
    SessionLimits,
    SessionStatistics,
    Version,
)

__all__ = [
    "CLOSE_CODES",
    "Acknowledged",
    "ClientAction",
    "ClientLimits",
    "ClientSession",
    "Close",
    "CloseCode",
    "Confirmed",
    "Delivered",
    "DeploymentAck",
    "EventReject",
    "Opening",
    "PositionAck",
    "Rejected",
    "ResyncDone",
    "Resynchronize",
    "SendPing",
    "SendPong",
    "SendText",
    "ServerSession",
    "SessionAction",
    "SessionLimits",
    "SessionStatistics",
    "Version",
    "Welcomed",
    "for_number",
    "for_reason",
]
