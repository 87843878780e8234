"""The bounded queue between the socket and the user."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from gatecast.waiting import Signal

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue with one producer and one consumer; while it is full, the producer reads no more from the socket.

    It holds at most `max_items`, and at most `max_bytes` plus one item, so that any single item fits.
    """

    def __init__(self, max_items: int, *, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        #: Each with its size.
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._failure: BaseException | None = None
        self._arrived = Signal()
        self._room = Signal()
        self._taken_by_someone = False
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether `put` would wait."""
        return not self._closed and (len(self._items) >= self._max_items or self._bytes >= self._max_bytes)

    async def put(self, item: T, *, size: int = 0) -> None:
        """Add an item of `size` bytes, when there is room; after `close` it is dropped."""
        while self.is_full:
            await self._room.wait()
        if not self._closed:
            self._items.append((item, size))
            self._bytes += size
            self._arrived.set()

    async def take(self) -> T:
        """The next item; once none is left, raises the error that `fail` got."""
        if self._taken_by_someone:
            raise RuntimeError("only one at a time may iterate over the events of a client")
        self._taken_by_someone = True
        try:
            while not self._items:
                if self._failure is not None:
                    raise self._failure
                await self._arrived.wait()
        finally:
            self._taken_by_someone = False
        item, size = self._items.popleft()
        self._bytes -= size
        self._room.set()
        return item

    def clear(self) -> None:
        """Drop what waits: it will come again."""
        self._items.clear()
        self._bytes = 0
        self._room.set()

    def fail(self, error: BaseException) -> None:
        """Let `take` raise this error once nothing is left."""
        self._failure = error
        self._arrived.set()

    def close(self) -> None:
        """Accept no more items, so that the producer never waits."""
        self._closed = True
        self.clear()
