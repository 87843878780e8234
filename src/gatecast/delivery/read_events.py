"""The last event that this pod read from each log: proof against a history that lacks it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from uuid import UUID

from gatecast.events import UNKNOWN_ID
from gatecast.storage.contract import ReadRequest, ReadResult, Remembered

#: Most logs that a pod remembers; the least recently read one is forgotten first.
MAX_LOGS = 50_000


class Memory:
    """The last event that was read from each log, even after the connection that it was read for has ended."""

    def __init__(self) -> None:
        #: By gateway: the log, the offset, and the event's id.
        self._last: OrderedDict[str, tuple[int, int, UUID | None]] = OrderedDict()

    def note(self, request: ReadRequest, result: ReadResult) -> bool:
        """Remember the last event that a read returned, or confirmed to be the last one.

        False, and nothing else, if the pod has read past the present end of the log.
        """
        known = self._last.get(request.gateway_id)
        if known is not None and known[:2] > (result.log_id, result.head):
            return False
        if (place := _last_place(request, result)) is not None:
            if known is None or known[:2] <= (result.log_id, place[0]):
                self._last[request.gateway_id] = (result.log_id, *place)
            self._last.move_to_end(request.gateway_id)
            if len(self._last) > MAX_LOGS:
                self._last.popitem(last=False)
        return True

    def longer_than(self, heads: Mapping[str, int]) -> list[str]:
        """The gateways whose logs the pod has read past these heads."""
        return [name for name in heads.keys() & self._last.keys() if self._last[name][1] > heads[name]]

    def forget(self, gateway_ids: Sequence[str]) -> None:
        """Forget what was read from these logs."""
        for gateway_id in gateway_ids:
            self._last.pop(gateway_id, None)

    def clear(self) -> None:
        """Forget everything: another history has begun."""
        self._last.clear()

    def batches(self, size: int) -> Iterator[list[Remembered]]:
        """All remembered events, at most `size` at a time."""
        remaining = iter(
            [
                Remembered(gateway_id=gateway_id, log_id=log_id, offset=offset, event_id=event_id)
                for gateway_id, (log_id, offset, event_id) in self._last.items()
            ]
        )
        while batch := list(islice(remaining, size)):
            yield batch


def _last_place(request: ReadRequest, result: ReadResult) -> tuple[int, UUID | None] | None:
    """Offset and id of the last known event; None if the read returned nothing from the middle of a log."""
    if result.events:
        last = result.events[-1]
        return last.offset, None if last.event_id == UNKNOWN_ID else last.event_id
    if result.head and result.head == request.after:
        return result.head, result.last_event_id
    return None
