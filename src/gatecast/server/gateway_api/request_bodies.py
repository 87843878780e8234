"""What gateways send in the bodies of their requests. A refusal of anything else says what was expected."""

from __future__ import annotations

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gatecast.errors import InvalidValue
from gatecast.events.json_values import decode_foreign

#: Largest JSON that a gateway may send, including its manifest, in bytes.
MAX_JSON_BYTES = 4 * 1024 * 1024

#: Largest file of an import, in bytes.
MAX_FILE_BYTES = 16 * 1024 * 1024

#: Most values in one document. Decoded, the smallest value takes thirty times the memory that it takes as text.
MAX_VALUES = 400_000


async def json_of(request: web.Request) -> object:
    """The JSON in a body.

    Raises:
        InvalidValue: it is none, or larger than 4 MiB, or holds too many values, or they are nested too deep.
    """
    read = bytearray()
    async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
        read += chunk
        if len(read) > MAX_JSON_BYTES:
            raise InvalidValue("body", len(read), f"be at most {MAX_JSON_BYTES:,} bytes")
    return decode("body", bytes(read))


def decode(name: str, text: bytes) -> object:
    """The JSON in a text, if decoding it takes bounded memory and time.

    Raises:
        InvalidValue: it is none, or holds more than 400,000 values, or they are nested too deep.
    """
    # Commas in strings count as well; real bodies stay far below.
    values = text.count(b",") + text.count(b"[") + text.count(b"{")
    if values > MAX_VALUES:
        raise InvalidValue(name, values, f"hold at most {MAX_VALUES:,} values")
    return decode_foreign(name, text)


async def file_of(request: web.Request, field: str) -> bytes:
    """A file of a multipart body.

    Raises:
        InvalidValue: there is no such file, or it is larger than 16 MiB.
    """
    if not request.content_type.startswith("multipart/"):
        raise InvalidValue("body", request.content_type, "be multipart/form-data")
    try:
        reader = await request.multipart()
        for _ in range(MAX_PARTS):
            part = await reader.next()
            if part is None:
                break
            if isinstance(part, BodyPartReader) and part.name == field:
                return await _bounded(part)
            # Unknown parts are skipped, and count as well.
            await _bounded(part)
    except (ValueError, AssertionError, RuntimeError, HttpProcessingError) as problem:
        raise InvalidValue("body", type(problem).__name__, "be multipart/form-data") from problem
    raise InvalidValue(field, "", "be a file in the body")


_CHUNK_BYTES = 64 * 1024

#: Most parts of an import: a gateway sends a file and a few numbers.
MAX_PARTS = 20


async def _bounded(part: object) -> bytes:
    """The file; the framework's own limit holds for whole bodies that it reads itself only."""
    if not isinstance(part, BodyPartReader):
        raise InvalidValue("body", "multipart", "hold no parts within parts")
    read = bytearray()
    while chunk := await part.read_chunk():
        read += chunk
        if len(read) > MAX_FILE_BYTES:
            raise InvalidValue("artifacts", len(read), f"be at most {MAX_FILE_BYTES:,} bytes")
    return bytes(read)
