"""JSON in the bodies of requests, read by the one grammar of all doors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from gatecast.errors import InvalidValue
from gatecast.events.json_values import decode

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
    """Bound the memory and time that decoding takes. Commas in texts count as well; nobody comes near."""
    if (values := body.count(b",") + body.count(b"[") + body.count(b"{")) > MAX_VALUES:
        raise InvalidValue("body", values, f"hold at most {MAX_VALUES:,} values")


class JsonRoute(APIRoute):
    """A route whose requests are read by the grammar."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What the framework calls with a request."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handler
