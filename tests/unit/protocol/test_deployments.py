from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from gatecast.events import RecordedEvent
from gatecast.protocol.deployments import SentDeployments
from gatecast.protocol.messages import DeploymentAck

MakeEvent = Callable[..., RecordedEvent]
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 440_000, tzinfo=UTC)
DATA: dict[str, object] = {"providerId": "p-1", "deploymentId": "d-1", "performedAt": "2026-01-02T03:04:05.440Z"}


def acknowledgement(
    action: str = "deploy",
    *,
    artifact_id: str = "p-1",
    deployment_id: str = "d-1",
    performed_at: datetime | None = MOMENT,
) -> DeploymentAck:
    """The word of the gateway on that deployment."""
    return DeploymentAck(
        deployment_id=deployment_id,
        artifact_id=artifact_id,
        resource_type="llmprovider",
        action=action,
        succeeded=True,
        performed_at=performed_at,
        error_code="",
    )


def remembering(*events: RecordedEvent) -> SentDeployments:
    """A memory of these events."""
    deployments = SentDeployments()
    for event in events:
        deployments.remember(event)
    return deployments


@pytest.mark.parametrize("field", ["apiId", "providerId", "proxyId"])
@pytest.mark.parametrize(("kind", "action"), [("deployed", "deploy"), ("undeployed", "undeploy")])
def test_an_acknowledgement_finds_its_event(make_event: MakeEvent, field: str, kind: str, action: str) -> None:
    data = {field: "a-1", "deploymentId": "d-1", "performedAt": "2026-01-02T03:04:05.440Z"}
    deployments = remembering(make_event(7, f"some.{kind}", data))

    assert deployments.take(acknowledgement(action, artifact_id="a-1")) == 7


@pytest.mark.parametrize(
    "ack",
    [
        acknowledgement("undeploy"),
        acknowledgement(artifact_id="p-2"),
        acknowledgement(deployment_id="d-2"),
        acknowledgement(performed_at=None),
        acknowledgement(performed_at=MOMENT.replace(microsecond=441_000)),
    ],
)
def test_every_part_of_the_name_counts(make_event: MakeEvent, ack: DeploymentAck) -> None:
    assert remembering(make_event(7, "llmprovider.deployed", DATA)).take(ack) is None


def test_each_event_is_found_once(make_event: MakeEvent) -> None:
    deployments = remembering(make_event(7, "llmprovider.deployed", DATA))

    assert [deployments.take(acknowledgement()) for _ in range(2)] == [7, None]


def test_events_that_cannot_be_told_apart_are_acknowledged_in_order(make_event: MakeEvent) -> None:
    """Without `performedAt` two deployments of one id look alike; the gateway handles them one after the other."""
    data: dict[str, object] = {"proxyId": "p-1", "deploymentId": "d-1"}
    deployments = remembering(make_event(1, "llmproxy.deployed", data), make_event(2, "llmproxy.deployed", data))
    ack = acknowledgement(performed_at=None)

    assert [deployments.take(ack) for _ in range(3)] == [1, 2, None]


def test_an_undeploy_may_omit_its_deployment(make_event: MakeEvent) -> None:
    deployments = remembering(make_event(7, "llmproxy.undeployed", {"proxyId": "p-1"}))

    assert deployments.take(acknowledgement("undeploy", deployment_id="", performed_at=None)) == 7


def test_the_oldest_are_forgotten_beyond_1024(make_event: MakeEvent) -> None:
    deployments = remembering(
        *(make_event(offset, "api.deployed", DATA | {"providerId": f"p-{offset}"}) for offset in range(1, 1_026))
    )

    assert deployments.take(acknowledgement(artifact_id="p-1")) is None
    assert deployments.take(acknowledgement(artifact_id="p-2")) == 2


@pytest.mark.parametrize("payload", ["[]", "7", "{", '{"performedAt": ""}', '{"performedAt": 7}', "[" * 100_000])
def test_an_event_that_the_gateway_cannot_read_is_not_remembered(make_event: MakeEvent, payload: str) -> None:
    event = make_event(7, "api.deployed")
    object.__setattr__(event, "payload", payload)

    assert not remembering(event)._sent


@pytest.mark.parametrize("kind", ["api.deleted", "apikey.created", "deployed", "api.Deployed", "api.deployed.x"])
def test_other_events_are_not_read_at_all(make_event: MakeEvent, kind: str) -> None:
    assert not remembering(make_event(7, kind, DATA))._sent


def test_identifiers_of_other_types_do_no_harm(make_event: MakeEvent) -> None:
    deployments = remembering(make_event(7, "api.deployed", {"apiId": ["x"], "deploymentId": {"y": 1}}))

    assert deployments.take(acknowledgement(artifact_id="x")) is None
