"""JSON in the bodies of requests, read by the one grammar of all endpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from gatecast.errors import InvalidValue, UnsupportedBody
from gatecast.events.json_values import decode

_JSON = re.compile(r"application/(?:[^/]+\+)?json")

#: Most values in one body. Decoded, the smallest value takes thirty times the memory that it takes as text.
MAX_VALUES = 1_000_000


class BodyUnreadable(HTTPException):
    """A body is no JSON of the grammar. FastAPI lets only this kind of exception through while it reads one."""

    def __init__(self, error: InvalidValue) -> None:
        super().__init__(422)
        #: What is wrong with it.
        self.error = error


class JsonRequest(Request):
    """A request whose body is read by the grammar: two readers cannot take it for two different things."""

    async def json(self) -> Any:  # noqa: ANN401 - JSON
        """The value in the body.

        Raises:
            BodyUnreadable: it is no JSON, names a key twice, holds too many values, or is nested too deep to be read.
        """
        if not hasattr(self, "_json"):
            try:
                self._json = read_json(await self.body())
            except InvalidValue as error:
                raise BodyUnreadable(error) from None
        return self._json


def read_json(body: bytes) -> Any:  # noqa: ANN401 - JSON
    """The value in a body.

    Raises:
        InvalidValue: it is no JSON, names a key twice, holds too many values, or is nested too deep to be read.
    """
    _check_values(body)
    return decode("body", body)


def _check_values(body: bytes) -> None:
    """Bound the memory and time that decoding takes. Commas in strings count as well; real bodies stay far below."""
    if (values := body.count(b",") + body.count(b"[") + body.count(b"{")) > MAX_VALUES:
        raise InvalidValue("body", values, f"hold at most {MAX_VALUES:,} values")


def check_form(headers: Headers) -> None:
    """Refuse a body that says of itself that it is something else than plain JSON.

    Raises:
        UnsupportedBody: it is of another media type, or encoded.
    """
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    said = headers.get("content-type", "")
    if not _JSON.fullmatch(said.partition(";")[0].strip().lower()):
        raise UnsupportedBody("Content-Type", said, "be application/json")
    if (encoding := headers.get("content-encoding", "identity").strip().lower()) != "identity":
        raise UnsupportedBody("Content-Encoding", encoding, "be left out: bodies are read as they are")


class JsonRoute(APIRoute):
    """A route whose requests are read by the grammar."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler that the framework calls with a request."""
        handle, reads_body = super().get_route_handler(), self.body_field is not None

        async def handler(request: Request) -> Response:
            if reads_body:
                check_form(request.headers)
            return await handle(JsonRequest(request.scope, request.receive))

        return handler
