"""Parts that several routes have in their paths, queries and headers."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Header, Path, Query, Response
from pydantic import AfterValidator, Field

from gatecast.errors import InvalidValue
from gatecast.events import MAX_IDENTIFIER_LENGTH, clean_identifier

#: Most items of a page.
MAX_PAGE = 500

#: Longest time that a caller may wait for gateways, in seconds.
MAX_WAIT = 60.0

#: Trimmed here, at the edge, like every id (scenario S17).
_clean_gateway_id = AfterValidator(lambda gateway_id: clean_identifier("gateway_id", gateway_id))
GatewayId = Annotated[str, Path(max_length=MAX_IDENTIFIER_LENGTH), _clean_gateway_id]
#: One of several in a query.
ListedGateway = Annotated[str, Field(max_length=MAX_IDENTIFIER_LENGTH)]
ResourceId = Annotated[str, Path(max_length=64, pattern=r"^[^\x00]*$")]
TokenId = ResourceId
KeyName = Annotated[str, Path(max_length=63, pattern=r"^[^\x00]*$")]
After = Annotated[
    str, Query(max_length=300, pattern=r"^[^\x00]*$", description="`next` of the previous page; empty: the first page.")
]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
IfMatch = Annotated[str | None, Header(max_length=64, description="Change only if this is still its ETag.")]
Timeout = Annotated[float, Query(ge=0, le=MAX_WAIT, description="How long to wait, in seconds.")]


#: The headers of an answer that names a new resource.
CREATED: dict[int | str, dict[str, Any]] = {
    201: {"headers": {"Location": {"description": "Where it is.", "schema": {"type": "string"}}}}
}


def located(response: Response, *parts: str | int) -> None:
    """Say where the new resource is; `parts` stand below `/api/v1`."""
    response.headers["Location"] = location_of(*parts)


def location_of(*parts: str | int) -> str:
    """The path of a resource; `parts` stand below `/api/v1`."""
    return quote("/".join(("/api/v1", *map(str, parts))), safe="/?=&")


def etag_of(version: int) -> str:
    """The ETag of this version of a resource."""
    return f'"{version}"'


def version_in(if_match: str | None) -> int | None:
    """The version that a client names in `If-Match`; None: any.

    Raises:
        InvalidValue: it is no ETag of ours.
    """
    if if_match is None or if_match == "*":
        return None
    digits = if_match.strip().removeprefix("W/").strip('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):  # noqa: PLR2004 - fits a bigint
        raise InvalidValue("If-Match", if_match, "be the ETag of an earlier answer")
    return int(digits)
