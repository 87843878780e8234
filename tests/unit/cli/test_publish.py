"""What `gatecast publish` says and how it ends, against an API that answers as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from gatecast.cli.main import app
from gatecast.server.error_replies import MEDIA_TYPE

_GATEWAYS = b'{"items": [{"id": "g-1", "name": "edge"}], "next": null}'


class _Api(HTTPServer):
    """An admin API with one gateway."""

    state = "stored"


class _Answers(BaseHTTPRequestHandler):
    server: _Api

    def do_GET(self) -> None:
        """The gateways."""
        self._answer(200, _GATEWAYS)

    def do_POST(self) -> None:
        """An event."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = f'{{"eventId": "e-1", "offset": 1, "position": "x:1", "state": "{self.server.state}", "reason": ""}}'
        self._answer(201, body.encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", MEDIA_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[_Api]:
    """Answers on a free port."""
    with _Api(("127.0.0.1", 0), _Answers) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@pytest.mark.parametrize(
    ("event_type", "wait", "state", "status"),
    [
        ("api.deployed", "", "stored", 0),
        ("api.deployed", "confirmed", "stored", 1),
        ("api.deployed", "confirmed", "confirmed", 0),
        ("api.deployed", "confirmed", "applied", 0),
        ("api.deployed", "applied", "confirmed", 1),
        ("api.deployed", "applied", "applied", 0),
        ("api.deployed", "applied", "rejected", 1),
        ("api.deployed", "confirmed", "rejected", 1),
        ("route.changed", "applied", "confirmed", 0),
        ("route.changed", "applied", "stored", 1),
    ],
)
def test_it_succeeds_when_what_was_waited_for_has_happened(
    api: _Api, event_type: str, wait: str, state: str, status: int
) -> None:
    """Of what is never acknowledged, that it was confirmed is the last word."""
    api.state = state
    command = [
        "publish",
        "edge",
        "--type",
        event_type,
        "--entity-id",
        "a-1",
        "--url",
        f"http://127.0.0.1:{api.server_port}",
    ]
    result = CliRunner().invoke(app, [*command, "--token", "a-token-for-tests", *(["--wait", wait] if wait else [])])
    assert result.exit_code == status, result.output
    assert "published at offset 1" in result.output
