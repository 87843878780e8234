"""`gatecast tail` prints events, and gateways when it is asked to, whatever else the stream tells."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from gatecast.cli import tail
from gatecast.cli.remote import Remote, RequestRefused

_EVENT = {
    "gatewayId": "g",
    "offset": 7,
    "type": "api.updated",
    "action": "UPDATE",
    "entityType": "Api",
    "entityId": "a",
}

_ALL = {"type": "", "action": "", "entity": ""}

_STREAM: list[tuple[str, dict[str, Any]]] = [
    ("gateway", {"gatewayId": "g", "name": "edge"}),
    ("outcome", {"gatewayId": "g", "offset": 6, "kind": "applied"}),
    ("deployment", {"gatewayId": "g", "state": "DEPLOYED"}),
    ("reload", {"list": "deployments"}),
    ("of-a-later-release", {}),
    ("recorded", {**_EVENT, "offset": 6, "type": "api.deployed"}),
    ("recorded", _EVENT),
]


def _lines(messages: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
    """A stream as it is sent."""
    return [
        line
        for number, (kind, data) in enumerate(messages, 1)
        for line in (f"id: {number}", f"event: {kind}", f"data: {json.dumps(data)}", "")
    ]


class _Server(Remote):
    """Answers with these streams, one after the other."""

    def __init__(self, *streams: list[str] | Exception) -> None:
        super().__init__("http://127.0.0.1:1", "a-token")
        self._streams = iter(streams)
        #: Parameters and last id of each stream that was asked for.
        self.asked: list[tuple[Mapping[str, str], str]] = []

    def request(self, method: str, path: str, **_: object) -> Any:  # noqa: ANN401 - JSON
        """A gateway."""
        assert method == "GET"
        return {"id": f"id-of-{path.rpartition('/')[2]}"}

    def stream(self, path: str, parameters: Mapping[str, str], *, last_event_id: str = "") -> Iterator[str]:
        """The next one."""
        assert path == "/api/v1/events/stream"
        self.asked.append((parameters, last_event_id))
        stream = next(self._streams)
        if isinstance(stream, Exception):
            raise stream
        yield from stream


@pytest.mark.parametrize("wanted", ["", "UPDATED"])
def test_other_messages_end_no_tail(wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    server = _Server(_lines(_STREAM))
    limit = 1 if wanted else 2
    filters = {"type": wanted, "action": "", "entity": ""}
    tail._tail("", filters, server, limit=limit, with_state=False, as_json=True)
    shown = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert shown[-1] == _EVENT
    assert len(shown) == limit


def test_a_pod_that_cannot_read_is_told_beside_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error: what reads the output gets events alone."""
    unreadable = [("unreadable", {"gatewayId": "edge", "reason": reason}) for reason in ("it is [damaged]", None)]
    server = _Server(_lines([("away", {"seconds": 2.0}), ("back", {}), *unreadable, ("recorded", _EVENT)]))
    tail._tail("", _ALL, server, limit=1, with_state=False, as_json=True)
    said = capsys.readouterr()
    assert [json.loads(each) for each in said.out.splitlines()] == [_EVENT]
    assert "the database is away" in said.err
    assert "the database is back" in said.err
    assert "the log of edge cannot be read now: it is [damaged]" in said.err
    assert "the log of edge can be read again" in said.err


def test_it_goes_on_after_the_last_id_when_its_pod_is_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stream ends; nobody answers; the balancer has no pod; then another pod goes on, an event before."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    later = {**_EVENT, "offset": 8}
    server = _Server(
        _lines([("recorded", _EVENT)]),
        RequestRefused(0, "unreachable", "no answer"),
        RequestRefused(503, "Service Unavailable", ""),
        _lines([("recorded", _EVENT), ("recorded", later)]),
    )
    tail._tail("edge", _ALL, server, limit=2, with_state=False, as_json=True)
    assert [json.loads(each) for each in capsys.readouterr().out.splitlines()] == [_EVENT, later]
    assert server.asked == [({"gateway": "id-of-edge"}, last) for last in ("", "1", "1", "1")]


@pytest.mark.parametrize(("status", "attempts"), [(401, 1), (0, 11)])
def test_a_server_that_refuses_or_stays_away_ends_it(
    monkeypatch: pytest.MonkeyPatch, status: int, attempts: int
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    server = _Server(*[RequestRefused(status, "no", "no")] * 20)
    with pytest.raises(RequestRefused):
        tail._tail("", _ALL, server, limit=0, with_state=False, as_json=True)
    assert len(server.asked) == attempts
