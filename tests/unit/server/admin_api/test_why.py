"""Why a gateway is, or is not, up to date."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import uuid4

import pytest

from gatecast.controlplane.deployments.artifacts import Placed
from gatecast.controlplane.deployments.placements import Deployment, DeploymentState
from gatecast.controlplane.documents import Kind
from gatecast.controlplane.gateway_sync.synchronizations import Synchronization
from gatecast.server.admin_api.models import WhyCode
from gatecast.server.admin_api.why import ANSWERED_WITHIN, why, why_synchronizing, why_unanswered
from gatecast.server.fleet_metrics import SLOW_UNTIL
from gatecast.storage.contract import GatewayStatus, LiveConnection, Outcome, OutcomeKind

_CONNECTION = LiveConnection(
    connection_id="c",
    pod_id="pod-1",
    replica="",
    protocol="gateway.v1",
    remote="",
    connected_at=datetime(2026, 1, 1, tzinfo=UTC),
    sent=0,
    confirmed=0,
)

_CURRENT = GatewayStatus(
    gateway_id="gw-1",
    epoch=uuid4(),
    head=9,
    low_water_mark=0,
    sent=9,
    confirmed=9,
    lag_seconds=0.0,
    last_seen_at=None,
    resync_reason=None,
    connections=[_CONNECTION],
)

_BEHIND = replace(_CURRENT, confirmed=4, lag_seconds=1.0)

_REJECTION = Outcome(gateway_id="gw-1", replica="", offset=7, kind=OutcomeKind.REJECTED, reason="unknown template")

_CASES = [
    ("current", _CURRENT, None, False),
    ("offline", replace(_CURRENT, connections=[]), None, False),
    ("current", replace(_CURRENT, head=0, sent=0, confirmed=0), None, False),
    ("rejected", _CURRENT, _REJECTION, False),
    ("offline", replace(_CURRENT, connections=[]), _REJECTION, False),
    ("slow", _BEHIND, None, False),
    ("slow", _BEHIND, _REJECTION, False),
    ("not-confirming", replace(_BEHIND, lag_seconds=SLOW_UNTIL), None, False),
    ("pod-lagging", replace(_BEHIND, sent=4), None, False),
    ("pod-lagging", replace(_BEHIND, sent=4, lag_seconds=60.0), None, False),
    ("offline", replace(_BEHIND, connections=[]), None, False),
    ("offline", replace(_BEHIND, connections=[], sent=4), None, False),
    ("resync-needed", replace(_CURRENT, resync_reason="retention"), None, False),
    ("resync-needed", replace(_BEHIND, resync_reason="epoch", connections=[]), _REJECTION, False),
    ("publisher-uncommitted", _CURRENT, None, True),
    ("rejected", _CURRENT, _REJECTION, True),
    ("publisher-uncommitted", replace(_CURRENT, connections=[]), None, True),
    ("slow", _BEHIND, None, True),
    ("resync-needed", replace(_CURRENT, resync_reason="retention"), None, True),
]


@pytest.mark.parametrize(("code", "status", "rejected", "held"), _CASES)
def test_the_code_follows_from_what_storage_knows(
    code: str, status: GatewayStatus, rejected: Outcome | None, *, held: bool
) -> None:
    found = why(status, rejected=rejected, held=held)
    assert found.code == code
    assert found.cause


def test_every_code_has_a_case() -> None:
    elsewhere = {"not-acknowledged", "synchronizing", "undeliverable", "manifest-refused", "publisher-unforwarded"}
    assert {code for code, *_ in _CASES} | elsewhere == set(get_args(WhyCode))


def test_a_gateway_that_reads_its_lists_is_shown_as_synchronizing_while_it_is_connected() -> None:
    began_at = _CONNECTION.connected_at + timedelta(seconds=0.2)
    seen = Synchronization(
        number=1,
        began_at=began_at,
        began=3.0,
        called=1.0,
        finished=None,
        listed=True,
        secrets_read=True,
        began_anew=False,
    )
    found = why_synchronizing(seen, _BEHIND)
    assert found is not None
    assert found.code == "synchronizing"
    assert "5 events wait" in found.cause
    assert why_synchronizing(seen, replace(_BEHIND, connections=[])) is None
    assert why_synchronizing(replace(seen, finished=0.5), _BEHIND) is None
    assert why_synchronizing(replace(seen, called=10.0), _BEHIND) is None
    assert why_synchronizing(replace(seen, began=60.0), _BEHIND) is None
    assert why_synchronizing(None, _BEHIND) is None
    # Calls long after a connect hold nothing back.
    assert why_synchronizing(replace(seen, began_at=began_at + timedelta(seconds=1)), _BEHIND) is None


def _placed(state: DeploymentState, performed_at: int) -> Placed:
    deployment = Deployment(
        id="d",
        artifact_id="a",
        gateway_id="gw-1",
        revision=1,
        content_id="c",
        state=state,
        reason="",
        performed_at=performed_at,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return Placed(Kind.REST_API, "demo-api", deployment)


def test_a_change_that_is_not_acknowledged_in_time_is_named() -> None:
    limit = int(ANSWERED_WITHIN * 1000)
    pending, applied = _placed(DeploymentState.PENDING, 1_000), _placed(DeploymentState.DEPLOYED, 0)
    assert why_unanswered([applied, pending], now=limit) is None
    found = why_unanswered([applied, pending], now=limit + 1_000)
    assert found is not None
    assert found.code == "not-acknowledged"
    assert "demo-api" in found.cause
    assert why_unanswered([applied], now=2 * limit) is None


def test_a_rejection_is_told_with_its_reason() -> None:
    cause = why(_CURRENT, rejected=_REJECTION, held=False).cause
    assert "offset 7" in cause
    assert "unknown template" in cause
