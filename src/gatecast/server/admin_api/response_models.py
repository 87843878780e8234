"""From what is stored to what is shown."""

from __future__ import annotations

from gatecast.controlplane.access.gateways import Gateway
from gatecast.server.admin_api.models import ConnectionView, GatewaySummary, PositionView
from gatecast.server.admin_api.paths import etag_of
from gatecast.storage.contract import GatewayStatus, LiveConnection


def gateway_summary(gateway: Gateway, status: GatewayStatus, *, unforwarded: int) -> GatewaySummary:
    """A gateway with the state of its delivery."""
    fields = gateway.fields
    return GatewaySummary(
        id=gateway.id,
        name=fields.name,
        display_name=fields.display_name or fields.name,
        description=fields.description,
        vhost=fields.vhost,
        type=fields.type,
        connection_policy=fields.connection_policy,
        properties=None if "properties" in gateway.unreadable else dict(fields.properties),
        unreadable="; ".join(f"{name} must {rule}" for name, rule in gateway.unreadable.items()) or None,
        etag=etag_of(gateway.version),
        created_at=gateway.created_at,
        updated_at=gateway.updated_at,
        connected=bool(status.connections),
        connections=[_connection(connection) for connection in status.connections],
        position=PositionView(
            epoch=status.epoch,
            head=status.head,
            trimmed=status.low_water_mark,
            sent=status.sent,
            confirmed=status.confirmed,
        ),
        lag=status.head - status.confirmed + unforwarded,
        lag_seconds=round(status.lag_seconds, 3),
        last_seen_at=status.last_seen_at,
        resync_reason=status.resync_reason or gateway.unrecovered or None,
    )


def _connection(connection: LiveConnection) -> ConnectionView:
    return ConnectionView(
        connection_id=connection.connection_id,
        pod_id=connection.pod_id,
        replica=connection.replica,
        protocol=connection.protocol,
        remote=connection.remote,
        connected_at=connection.connected_at,
        sent=connection.sent,
        confirmed=connection.confirmed,
    )
