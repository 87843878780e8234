"""From what is stored to what is shown."""

from __future__ import annotations

from gatecast.controlplane.gateways import Gateway
from gatecast.server.admin_api.models import ConnectionView, GatewayView, PositionView, WhyView
from gatecast.storage.contract import GatewayStatus, LiveConnection

#: A gateway that is connected and this far behind, in seconds, is slow.
_SLOW_AFTER = 10.0


def gateway_view(gateway: Gateway, status: GatewayStatus) -> GatewayView:
    """A gateway with the state of its delivery."""
    fields = gateway.fields
    return GatewayView(
        id=gateway.id,
        name=fields.name,
        display_name=fields.display_name or fields.name,
        description=fields.description,
        vhost=fields.vhost,
        type=fields.type,
        connection_policy=fields.connection_policy,
        properties=dict(fields.properties),
        manifest=dict(gateway.manifest) if gateway.manifest is not None else None,
        created_at=gateway.created_at,
        updated_at=gateway.updated_at,
        connected=bool(status.connections),
        connections=[_connection(connection) for connection in status.connections],
        position=PositionView(epoch=status.epoch, head=status.head, sent=status.sent, confirmed=status.confirmed),
        lag=status.head - status.confirmed,
        lag_seconds=round(status.lag_seconds, 3),
        last_seen_at=status.last_seen_at,
        resync_reason=status.resync_reason,
    )


def _connection(connection: LiveConnection) -> ConnectionView:
    return ConnectionView(
        connection_id=connection.connection_id,
        pod_id=connection.pod_id,
        replica=connection.replica,
        protocol=connection.protocol,
        remote=connection.remote,
        connected_at=connection.connected_at,
    )


def why(status: GatewayStatus, *, rejected: int | None) -> WhyView:
    """Why a gateway is, or is not, up to date; `rejected` is the offset of its last event if that was rejected."""
    if status.resync_reason is not None:
        cause = f"its position cannot be continued ({status.resync_reason}); it must read the desired state anew"
        return WhyView(code="resync-needed", cause=cause)
    if status.head > status.confirmed:
        return _why_behind(status, status.head - status.confirmed)
    if rejected is not None:
        return WhyView(code="rejected", cause=f"everything was handled, but it rejected the event at offset {rejected}")
    return WhyView(code="current", cause="it has confirmed every event")


def _why_behind(status: GatewayStatus, lag: int) -> WhyView:
    if not status.connections:
        return WhyView(code="offline", cause=f"it is not connected; {lag:,} events wait for it")
    if status.sent <= status.confirmed:
        return WhyView(code="pod-lagging", cause=f"{lag:,} events are stored, and its pod has not sent them yet")
    if status.lag_seconds < _SLOW_AFTER:
        return WhyView(code="slow", cause=f"it is working: {lag:,} events are not confirmed yet")
    return WhyView(
        code="not-confirming",
        cause=f"events were sent up to offset {status.sent}, and none behind {status.confirmed} was confirmed "
        f"for {status.lag_seconds:.0f} s",
    )
