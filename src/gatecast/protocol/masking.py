"""Finds frames that a client did not mask: RFC 6455, section 5.1, lets a server take none of them."""

from __future__ import annotations

_MASKED = 0x80
_LENGTH = 0x7F
_MASK_BYTES = 4

#: How long a head is that says whether its frame is masked, in bytes.
_TELLING = 2

#: What the length field says when the length follows it, and how many bytes long that is.
_LONGER = {126: 2, 127: 8}


class MaskChecker:
    """Follows a client's frames by their heads."""

    def __init__(self) -> None:
        #: True once a frame came that is not masked.
        self.broken = False
        self._head = bytearray()
        #: Bytes of the current frame that come after its head.
        self._left = 0

    def passed(self, data: bytes) -> bytes:
        """What of this may be read: all of it, up to the first frame that is not masked.

        The first byte of a frame is held back until the second one says whether the frame is masked.
        """
        data = bytes(self._held) + data
        place = len(self._held)
        while place < len(data) and not self.broken:
            if self._left:
                step = min(self._left, len(data) - place)
                self._left -= step
                place += step
            else:
                self._head.append(data[place])
                place += 1
                self._read_head()
        return data[: place - (_TELLING if self.broken else len(self._held))]

    @property
    def _held(self) -> bytearray:
        return self._head if len(self._head) < _TELLING else bytearray()

    def _read_head(self) -> None:
        """Once the head tells how long the frame is, pass over its mask and its payload."""
        if len(self._head) < _TELLING:
            return
        self.broken = not self._head[1] & _MASKED
        short = self._head[1] & _LENGTH
        more = _LONGER.get(short, 0)
        if len(self._head) == _TELLING + more:
            self._left = _MASK_BYTES + (int.from_bytes(self._head[_TELLING:], "big") if more else short)
            self._head.clear()
