"""The AsyncAPI document says what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from uuid import UUID

import pytest
import yaml
from jsonschema import Draft202012Validator

from gatecast.events import MAX_IDENTIFIER_LENGTH, Position, RecordedEvent
from gatecast.protocol import codec
from gatecast.protocol.close_codes import CLOSE_CODES
from gatecast.protocol.heartbeat import Heartbeat
from gatecast.protocol.messages import Ignored
from gatecast.protocol.session import SessionLimits, Version

DOCUMENT: dict[str, Any] = yaml.safe_load((files("gatecast.protocol") / "asyncapi.yaml").read_text("utf-8"))
CHANNEL: dict[str, Any] = DOCUMENT["channels"]["gateway"]
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
FROM_GATEWAY = ["deploymentAck", "positionAck", "eventReject"]
FROM_SERVER = ["connectionAck", "event", "resyncRequired"]
POSITION = Position(UUID("99999999-2222-4333-8444-555555555555"), 7)
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)

MakeEvent = Callable[..., RecordedEvent]


def schema_of(message: str) -> dict[str, Any]:
    """The schema of a message, with every reference resolved."""
    resolved: dict[str, Any] = _resolved(MESSAGES[message]["payload"])
    return resolved


def _resolved(node: Any) -> Any:  # noqa: ANN401 - any part of the document
    if isinstance(node, list):
        return [_resolved(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _resolved(_at(node["$ref"]))
    return {name: _resolved(value) for name, value in node.items()}


def _at(reference: str) -> Any:  # noqa: ANN401 - any part of the document
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def example_of(message: str) -> dict[str, Any]:
    """The message's example."""
    example: dict[str, Any] = MESSAGES[message]["examples"][0]["payload"]
    return example


def _references(node: Any) -> Iterator[str]:  # noqa: ANN401 - any part of the document
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _references(item)


def encoded(message: str, event: RecordedEvent) -> dict[str, Any]:
    """What the code writes for this message."""
    texts = {
        "connectionAck": codec.encode_connection_ack("gw-1", "c-1", MOMENT),
        "event": codec.encode_event(event, POSITION.epoch, withheld=2),
        "resyncRequired": codec.encode_resync_required("retention", POSITION),
        "positionAck": codec.encode_position_ack(POSITION),
        "eventReject": codec.encode_event_reject(POSITION, "no"),
    }
    written: dict[str, Any] = json.loads(texts[message])
    return written


def test_every_reference_leads_somewhere() -> None:
    assert all(_at(reference) is not None for reference in _references(DOCUMENT))


def test_the_operations_name_every_message_once() -> None:
    operations = DOCUMENT["operations"]
    sent, heard = (
        [entry["$ref"].rsplit("/", 1)[1] for entry in operations[name]["messages"]] for name in ("tell", "hear")
    )

    assert (sent, heard) == (FROM_SERVER, FROM_GATEWAY)
    assert set(CHANNEL["messages"]) == set(MESSAGES) == {*sent, *heard}


def test_every_message_type_of_the_code_is_described_and_no_other() -> None:
    assert {MESSAGES[name]["name"] for name in FROM_GATEWAY} == set(codec._INBOUND)
    assert {MESSAGES[name]["name"] for name in FROM_SERVER} == {*codec._OUTBOUND, "event"}


@pytest.mark.parametrize("message", [name for name in MESSAGES if name != "event"])
def test_a_message_is_named_after_its_type(message: str) -> None:
    assert schema_of(message)["properties"]["type"] == {"const": MESSAGES[message]["name"]}


@pytest.mark.parametrize("message", MESSAGES)
def test_versions_are_those_of_the_code(message: str) -> None:
    expected = ["gatecast.v2"] if message in {"resyncRequired", "positionAck", "eventReject"} else list(Version)

    assert MESSAGES[message]["x-versions"] == expected


@pytest.mark.parametrize("message", [name for name in MESSAGES if name != "deploymentAck"])
def test_what_the_code_writes_has_exactly_the_described_fields(message: str, make_event: MakeEvent) -> None:
    written = encoded(message, make_event(7, "api.deployed", {"apiId": "a-1"}))
    schema = schema_of(message)

    Draft202012Validator(schema).validate(written)
    assert list(written) == list(schema["properties"])


@pytest.mark.parametrize("message", MESSAGES)
def test_every_example_is_valid_and_complete(message: str) -> None:
    schema = schema_of(message)

    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(example_of(message))
    assert set(example_of(message)) == set(schema["properties"])


@pytest.mark.parametrize("message", FROM_GATEWAY)
def test_the_server_reads_the_examples_of_the_gateway(message: str) -> None:
    assert not isinstance(codec.decode(json.dumps(example_of(message))), Ignored)


@pytest.mark.parametrize("message", FROM_SERVER)
def test_the_client_reads_the_examples_of_the_server(message: str) -> None:
    assert not isinstance(codec.decode_from_server(json.dumps(example_of(message))), Ignored)


@pytest.mark.parametrize("message", FROM_GATEWAY)
def test_the_server_needs_exactly_the_required_fields(message: str) -> None:
    example = example_of(message)
    accepted = {name for name in example if not isinstance(codec.decode(json.dumps(_without(example, name))), Ignored)}

    assert set(example) - accepted == set(schema_of(message)["required"])


def test_the_server_needs_exactly_the_required_fields_of_a_deployment() -> None:
    example = example_of("deploymentAck")
    schema = schema_of("deploymentAck")["properties"]["payload"]
    needed = {
        name
        for name in example["payload"]
        if isinstance(codec.decode(json.dumps(example | {"payload": _without(example["payload"], name)})), Ignored)
    }

    assert set(example["payload"]) == set(schema["properties"])
    assert needed == set(schema["required"])


def _without(message: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != field}


@pytest.mark.parametrize("field", list(example_of("deploymentAck")["payload"]))
def test_every_field_of_a_deployment_is_read(field: str) -> None:
    example = example_of("deploymentAck")
    other = {"action": "undeploy", "status": "success", "performedAt": "2027-01-02T03:04:05Z"}.get(field, "other")
    changed = example | {"payload": example["payload"] | {field: other}}

    assert codec.decode(json.dumps(changed)) != codec.decode(json.dumps(example))


def test_lengths_are_those_of_the_code() -> None:
    payload = schema_of("deploymentAck")["properties"]["payload"]["properties"]
    lengths = {field["maxLength"] for field in payload.values() if "maxLength" in field}

    assert lengths == {MAX_IDENTIFIER_LENGTH}
    assert schema_of("eventReject")["properties"]["reason"]["maxLength"] == codec.MAX_REASON_LENGTH


def test_close_codes_are_those_of_the_code() -> None:
    assert CHANNEL["x-close-codes"] == [asdict(code) for code in CLOSE_CODES]


def test_limits_are_those_of_the_code() -> None:
    names = {field: re.sub(r"_(\w)", lambda match: match[1].upper(), field) for field in asdict(SessionLimits())}

    assert CHANNEL["x-limits"] == {names[field]: value for field, value in asdict(SessionLimits()).items()}


def test_pings_look_as_described() -> None:
    payload = Heartbeat(POSITION.epoch, interval=15.0, timeout=90.0, now=0.0).ping(2**63 - 1, 0.0)

    assert re.fullmatch(CHANNEL["x-pings"]["payload"], payload.decode())
