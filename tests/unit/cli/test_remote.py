"""What a command says of a server that does not answer, or not as a pod does, and how it reads a stream."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from typing import Any

import pytest

from gatecast.cli.remote import Remote, RequestRefused
from gatecast.errors import InvalidValue


def _request(connection: socket.socket) -> bytes:
    """A whole request: all that its header announces."""
    read = b""
    while True:
        head, blank, body = read.partition(b"\r\n\r\n")
        announced = re.search(rb"(?i)content-length: (\d+)", head)
        if blank and len(body) >= int(announced[1] if announced else 0):
            return read
        read += connection.recv(65536)


@contextmanager
def _answering(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a server that answers each connection with these bytes and closes it; and what it was asked."""
    asked: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                asked.append(_request(connection))
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        thread.join()


def _answer(status: str, body: str = "", *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body.encode())}", "", body)
    return "\r\n".join(lines).encode()


def _refused(url: str) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        Remote(url, "a-token").request("POST", "/api/v1/gateways", body={"name": "edge"})
    return refused.value


def test_a_request_names_path_query_token_and_body() -> None:
    with _answering(_answer("200 OK", '{"name": "é"}')) as (url, asked):
        server = Remote(f"{url}/behind/a/prefix/", " a-token\n")
        answer = server.request("POST", "/api/v1/gateways", body={"name": "é"}, parameters={"search": "a b&c"})
    assert answer == {"name": "é"}
    lines = asked[0].decode().split("\r\n")
    assert lines[0] == "POST /behind/a/prefix/api/v1/gateways?search=a+b%26c HTTP/1.1"
    assert {"Authorization: Bearer a-token", "Content-Type: application/json"} <= set(lines)
    assert json.loads(lines[-1]) == {"name": "é"}


def test_no_content_is_nothing() -> None:
    with _answering(b"HTTP/1.1 204 No Content\r\n\r\n") as (url, _):
        assert Remote(url, "a-token").request("DELETE", "/api/v1/gateways/edge") is None


def test_a_pod_says_what_is_wrong() -> None:
    problem = json.dumps({"title": "name taken", "detail": "there is a gateway of this name"})
    with _answering(_answer("409 Conflict", problem)) as (url, _):
        refused = _refused(url)
    assert (refused.status, refused.title, str(refused)) == (409, "name taken", "there is a gateway of this name")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (_answer("502 Bad Gateway", "<html>"), 502),
        (_answer("404 Not Found", "[]"), 404),
        (_answer("302 Found", "", "Location: https://elsewhere.test/"), 302),
        (_answer("200 OK", "<html>"), 0),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", 0),
        (b"", 0),
    ],
)
def test_what_does_not_answer_like_a_pod_is_refused_in_a_sentence(answer: bytes, status: int) -> None:
    """Also what would lead elsewhere, with the token."""
    with _answering(answer) as (url, _):
        refused = _refused(url)
    assert refused.status == status
    assert str(refused).startswith(f"no answer from {url}: " if not status else f"the answer is {status} ")


def test_whoever_is_not_there_is_named_without_credentials() -> None:
    refused = _refused("http://me:hunter2@127.0.0.1:1")
    assert refused.status == 0
    assert str(refused).startswith("no answer from http://127.0.0.1:1: ")


def test_a_token_that_no_header_can_hold_is_refused() -> None:
    with pytest.raises(InvalidValue, match="printable ASCII"):
        Remote("http://127.0.0.1:1", "töken")


def test_a_stream_is_read_line_by_line_and_no_line_is_torn() -> None:
    """Its pod dies within a chunk, or between two, or it ends as it should."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nid: 1\n\n\r\n6\r\ndata: \r\n"
    for end in (b"", b"20\r\n{", b"3\r\n{}", b"0\r\n\r\n"):
        with _answering(head + end) as (url, asked):
            stream = Remote(url, "a-token").stream("/api/v1/events/stream", {"gateway": "g"}, last_event_id="7")
            lines = []
            with suppress(RequestRefused):
                for line in stream:
                    lines.append(line)  # noqa: PERF402 - also what came before an error
        assert lines == ["id: 1", ""]
    assert b"GET /api/v1/events/stream?gateway=g HTTP/1.1\r\n" in asked[0]
    assert b"Last-Event-ID: 7\r\n" in asked[0]


def test_a_refusal_that_comes_before_the_whole_body_was_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod reads no body that is too large: sending the rest of it fails."""
    request = HTTPConnection.request

    def broken(connection: HTTPConnection, *arguments: Any) -> None:  # noqa: ANN401 - passed on
        request(connection, *arguments)
        raise BrokenPipeError

    monkeypatch.setattr(HTTPConnection, "request", broken)
    with _answering(_answer("413 Content Too Large", '{"title": "too large", "detail": "at most 1 MiB"}')) as (url, _):
        refused = _refused(url)
    assert (refused.status, str(refused)) == (413, "at most 1 MiB")
