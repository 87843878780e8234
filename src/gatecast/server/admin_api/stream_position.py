"""Where a stream of events stands, and how a client carries that."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from gatecast.errors import InvalidValue
from gatecast.events import MAX_INTEGER

#: Longest position of a stream as text, in characters; the position of 500 gateways has about half of it.
MAX_LENGTH = 32 * 1024

#: Largest one once it is unpacked, in bytes, so that a small text cannot fill the memory.
_LARGEST = 128 * 1024


@dataclass(slots=True)
class StreamPosition:
    """An offset for each gateway that a stream follows."""

    #: The history that the offsets belong to.
    epoch: UUID
    #: By gateway: everything up to there was shown.
    offsets: dict[str, int]

    def __str__(self) -> str:
        text = json.dumps({"epoch": str(self.epoch), "offsets": self.offsets}, separators=(",", ":"))
        return base64.urlsafe_b64encode(zlib.compress(text.encode())).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position that was written like this.

        Raises:
            InvalidValue: none was.
        """
        try:
            known = json.loads(zlib.decompressobj().decompress(base64.urlsafe_b64decode(text), _LARGEST))
            offsets = {name: _offset(offset) for name, offset in known["offsets"].items()}
            return cls(UUID(known["epoch"]), offsets)
        except (binascii.Error, zlib.error, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InvalidValue("Last-Event-ID", text, "be the id of an earlier event of this stream") from None


def _offset(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= MAX_INTEGER:
        raise ValueError(value)
    return value
