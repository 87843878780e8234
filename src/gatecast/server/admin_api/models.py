"""Bodies of requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from gatecast.controlplane.access.gateways import ConnectionPolicy, GatewayType
from gatecast.errors import InvalidValue
from gatecast.events import MAX_IDENTIFIER_LENGTH, Action, clean_identifier

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=2, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=512, pattern=r"^[^\x00]*$")]


def _identifier(value: str) -> str:
    """As everywhere, so that every wrong field of a body is found at once."""
    try:
        return clean_identifier("", value)
    except InvalidValue as error:
        raise PydanticCustomError("identifier", "Input should {rule}", {"rule": error.rule}) from None


_IDENTIFIER_SCHEMA = {"type": "string", "minLength": 1, "maxLength": MAX_IDENTIFIER_LENGTH}
Identifier = Annotated[str, AfterValidator(_identifier), WithJsonSchema(_IDENTIFIER_SCHEMA)]

WhyCode: TypeAlias = Literal[
    "current",
    "offline",
    "slow",
    "rejected",
    "manifest-refused",
    "not-acknowledged",
    "not-confirming",
    "pod-lagging",
    "undeliverable",
    "publisher-uncommitted",
    "publisher-unforwarded",
    "resync-needed",
    "synchronizing",
]


EventState: TypeAlias = Literal["stored", "confirmed", "applied", "rejected"]

#: The same of an event that was just published; `pending`: it is durable in the outbox, and not in the log yet;
#: `removed`: it was published before, and the log has removed it since.
PublishedState: TypeAlias = Literal["pending", "removed", "stored", "confirmed", "applied", "rejected"]

_Offset = Annotated[int | None, Field(description="Null while it is pending, and once it is removed.")]
_Position = Annotated[
    str | None, Field(description="Written `epoch:offset`; null while it is pending, and once it is removed.")
]


#: Most events in one request.
MAX_EVENTS_PER_BATCH = 1_000

#: What `next` of a page means.
NEXT = "Pass it as `after` for the next page; null: there is none."

#: What `next` of a short list means.
WHOLE = "Always null: the list is short and has one page."


#: As in the header of the same name.
Etag = Annotated[str, Field(description="Changes with the resource; pass it as `If-Match`.", examples=['"3"'])]


class Model(BaseModel):
    """camelCase outside, snake_case inside; unknown fields are errors."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class NewGateway(Model):
    """A gateway to register."""

    name: Name = Field(description="Unique in your organization.", examples=["edge-eu-1"])
    display_name: Text = Field("", examples=["Europe 1"])
    description: Text = ""
    vhost: Text = Field("", examples=["eu-1.gateways.example"])
    type: GatewayType = GatewayType.REGULAR
    connection_policy: ConnectionPolicy = Field(
        ConnectionPolicy.ALL,
        description="`newest-only` closes older connections when a new one comes. For a gateway that is one process: "
        "two processes with one token would replace each other for ever.",
    )
    properties: dict[str, Any] = Field(
        default_factory=dict, description="At most 16 KiB of JSON.", examples=[{"region": "eu"}]
    )


class GatewayChanges(Model):
    """The fields to change; others stay."""

    name: Name | None = Field(None, examples=["edge-eu-1"])
    display_name: Text | None = Field(None, examples=["Europe 1"])
    description: Text | None = None
    vhost: Text | None = None
    type: GatewayType | None = None
    connection_policy: ConnectionPolicy | None = None
    properties: dict[str, Any] | None = None


class PositionView(Model):
    """How far a gateway is."""

    epoch: UUID = Field(description="Identity of the database's history.")
    head: int = Field(description="Offset of the last event.")
    trimmed: int = Field(description="Retention has removed the events up to this offset.")
    sent: int = Field(description="Last offset that was handed to a socket.")
    confirmed: int = Field(description="Last offset that the gateway has confirmed.")


class ConnectionView(Model):
    """One live connection."""

    connection_id: str
    pod_id: str
    replica: str
    protocol: str
    remote: str
    connected_at: datetime
    sent: int = Field(description="Last offset that was handed to its socket.")
    confirmed: int = Field(description="Last offset that it has confirmed.")


class GatewaySummary(Model):
    """A gateway, and the state of its delivery."""

    id: str
    name: str
    display_name: str
    description: str
    vhost: str
    type: GatewayType
    connection_policy: ConnectionPolicy
    properties: dict[str, Any] | None = Field(description="Null: they cannot be read, and `unreadable` says why.")
    unreadable: str | None = Field(
        None, description="Which fields cannot be read back, and why: replace them (PATCH). Null: all can."
    )
    etag: Etag
    created_at: datetime
    updated_at: datetime
    connected: bool = Field(description="True while a pod with a valid lease holds a connection.")
    connections: list[ConnectionView]
    position: PositionView
    lag: int = Field(description="Events that are not confirmed yet.")
    lag_seconds: float = Field(description="Age of the oldest event that is not confirmed yet.")
    last_seen_at: datetime | None
    resync_reason: str | None = Field(description="Why the gateway must resynchronize, or null.")


class GatewayView(GatewaySummary):
    """A gateway with everything that is known of it."""

    manifest: dict[str, Any] | None = Field(
        description="The gateway's description of itself; null until it has sent one."
    )
    manifest_fault: str | None = Field(
        description="Why its last description could not be stored, so that `manifest` is older; null: it was stored."
    )


class GatewayPage(Model):
    """A page of gateways."""

    items: list[GatewaySummary]
    next: str | None = Field(description=NEXT)


class WhyView(Model):
    """Why a gateway is, or is not, up to date."""

    code: WhyCode
    cause: str = Field(description="The explanation in words.")


class NewToken(Model):
    """A token, on the only occasion on which it is shown."""

    id: str
    token: str
    prefix: str


class TokenView(Model):
    """A token without its secret."""

    id: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class TokenList(Model):
    """The tokens of a gateway."""

    items: list[TokenView]
    next: Annotated[None, Field(description=WHOLE)] = None


class NewEvent(Model):
    """An event to publish."""

    type: Identifier = Field(examples=["llmprovider.deployed"])
    action: Action
    entity_type: Identifier = Field(examples=["LlmProvider"])
    entity_id: Identifier = Field(examples=["4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55"])
    data: dict[str, Any] = Field(
        default_factory=dict,
        description="A JSON object, at most 1 MiB encoded.",
        examples=[{"providerId": "4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55"}],
    )
    event_id: UUID | None = Field(
        None, description="Generated if absent. An event with the same id is not stored again."
    )


class PublishedEvent(Model):
    """The position and state of an event, once it is durable."""

    event_id: UUID
    offset: _Offset
    position: _Position
    state: PublishedState = Field(
        description="Its state: pending (in the outbox and not in the log yet), removed (published before, and removed "
        "from the log since), stored, confirmed by the gateway, applied, or rejected."
    )
    reason: str = Field("", description="Why it was rejected.")


class NewGatewayEvent(NewEvent):
    """An event to publish, with the gateway it is for."""

    gateway_id: Identifier = Field(
        description="The gateway's id, or its name.", examples=["0b9f3c1e-6a51-4f0e-9a53-0f4b1c6f2d11"]
    )


class NewEvents(Model):
    """Events to publish together."""

    events: list[NewGatewayEvent] = Field(
        min_length=1,
        max_length=MAX_EVENTS_PER_BATCH,
        description="Stored in this order, all or none.",
        examples=[
            [
                {
                    "gatewayId": "0b9f3c1e-6a51-4f0e-9a53-0f4b1c6f2d11",
                    "type": "llmprovider.deployed",
                    "action": "UPDATE",
                    "entityType": "LlmProvider",
                    "entityId": "4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55",
                    "data": {"providerId": "4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55"},
                }
            ]
        ],
    )


class PublishedGatewayEvent(Model):
    """The position and state of one of several events, once all are durable."""

    gateway_id: str
    event_id: UUID
    offset: _Offset
    position: _Position
    result: Literal["created", "known", "conflict"] = Field(
        description="`created`; `known`: the same event was published before, at this position; `conflict`: "
        "another event with this id was published before, at this position, and this one was not stored."
    )


class PublishedEvents(Model):
    """The results of events that were published together."""

    items: list[PublishedGatewayEvent] = Field(description="In the order of the request.")


class GatewayEventState(Model):
    """The state of a change's last event at one gateway."""

    gateway_id: str
    event_id: UUID
    offset: _Offset
    position: _Position
    state: PublishedState = Field(
        description="Its state at the time of this answer; `GET …/gateways/{gatewayId}/events` knows more later. "
        "Nobody acknowledges it, so `confirmed` is the final word."
    )
    reason: str = Field("", description="Why it was rejected.")


class GatewayEventStates(Model):
    """How far a change has come."""

    gateways: list[GatewayEventState] = Field(description="Every gateway that it was published to.")


class OutcomeView(Model):
    """The outcome of an event that a gateway reported."""

    replica: str
    kind: Literal["applied", "rejected", "skipped", "held", "released", "undeliverable", "unknown"] = Field(
        description="`skipped`: rejected or undeliverable, and an operator left it out; `held` because its entity is "
        "parked; `released` and published again as a later event; "
        "`undeliverable` because it cannot be read or sent; `unknown`: a newer release recorded it."
    )
    reason: str
    recorded_at: datetime | None


class EventView(Model):
    """A recorded event."""

    offset: int
    event_id: UUID
    type: str
    action: Action
    entity_type: str
    entity_id: str
    data: dict[str, Any] | None = Field(description="Null: it cannot be read, and `undeliverable` says why.")
    originated_at: datetime
    recorded_at: datetime
    state: EventState = Field(
        description="`stored`; `confirmed` by the gateway: the final word unless it is a deploy or an undeploy; "
        "`applied`; `rejected`. What waits for a rejected event stays `stored`."
    )
    outcome: OutcomeView | None
    undeliverable: str | None = Field(
        None, description="Why it cannot be read or sent; fields that could not be read are empty, or 1970, here."
    )
    trace_parent: str | None = Field(default=None, description="The W3C `traceparent` of the change, if it is traced.")


class ParkedView(Model):
    """An entity with an event that a gateway rejected, or that cannot be delivered to it.

    Its later events are held and everything else flows. An unmodified gateway cannot reject: its log waits.
    """

    entity_type: str
    entity_id: str
    replica: str
    offset: int = Field(description="Of the first rejected or undeliverable event.")
    event_id: UUID
    reason: str = Field(description="Why the gateway rejected it, or why it cannot be delivered.")
    undeliverable: bool = Field(description="Whether it cannot be delivered; otherwise the gateway rejected it.")
    rejected_at: datetime
    held: int = Field(description="How many later events of the entity wait with it: held, or rejected as well.")


class ParkedPage(Model):
    """A page of parked entities, by the offset of the rejected event."""

    items: list[ParkedView]
    next: int | None = Field(description=NEXT)


class ParkedEntityName(Model):
    """A parked entity."""

    entity_type: Identifier = Field(examples=["llmprovider"])
    entity_id: Identifier = Field(examples=["4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55"])
    replica: Annotated[str, StringConstraints(max_length=MAX_IDENTIFIER_LENGTH, pattern=r"^[^\x00]*$")] = ""


class EventPage(Model):
    """A page of a gateway's log."""

    items: list[EventView]
    next: int | None = Field(description=NEXT)


class WrongField(BaseModel):
    """A field that breaks a rule."""

    field: str
    rule: str
    value: str | None = Field(None, description="The refused value, shortened, unless it may be a secret.")


class Problem(BaseModel):
    """`application/problem+json`: what went wrong, and what to do."""

    type: str = Field(examples=["urn:gatecast:problem:invalid-value"])
    title: str
    status: int
    detail: str
    field: str | None = Field(None, description="The field at fault.")
    rule: str | None = Field(None, description="What is allowed, as a phrase that continues `must`.")
    value: str | None = Field(None, description="The refused value, shortened.")
    errors: list[WrongField] | None = Field(None, description="Every field at fault; the first one is also above.")
    size: int | None = Field(None, description="Size of the data, in bytes.")
    limit: int | None = Field(None, description="The largest size, in bytes.")
    current: str | None = Field(None, description="The ETag that the resource has now.")
