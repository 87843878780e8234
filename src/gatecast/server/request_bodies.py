"""What gateways send in the bodies of their requests. Whoever sends something else is told what it should be."""

from __future__ import annotations

import json

from aiohttp import BodyPartReader, web

from gatecast.errors import InvalidValue

#: Largest file of an import, in bytes.
MAX_FILE_BYTES = 16 * 1024 * 1024


async def json_of(request: web.Request) -> object:
    """The JSON in a body.

    Raises:
        InvalidValue: it is none, or nested too deep to be read.
    """
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError):
        raise InvalidValue("body", "", "be JSON") from None


async def file_of(request: web.Request, field: str) -> bytes:
    """A file of a multipart body.

    Raises:
        InvalidValue: there is no such file, or it is larger than 16 MiB.
    """
    if not request.content_type.startswith("multipart/"):
        raise InvalidValue("body", request.content_type, "be multipart/form-data")
    try:
        async for part in await request.multipart():
            if isinstance(part, BodyPartReader) and part.name == field:
                return await _bounded(part)
    except (ValueError, AssertionError, RuntimeError) as problem:
        raise InvalidValue("body", type(problem).__name__, "be multipart/form-data") from problem
    raise InvalidValue(field, "", "be a file in the body")


async def _bounded(part: BodyPartReader) -> bytes:
    """The file; the framework's own limit holds for whole bodies that it reads itself only."""
    read = bytearray()
    while chunk := await part.read_chunk():
        read += chunk
        if len(read) > MAX_FILE_BYTES:
            raise InvalidValue("artifacts", len(read), f"be at most {MAX_FILE_BYTES:,} bytes")
    return bytes(read)
