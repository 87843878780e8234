"""Tells one stream what became of the events that it has shown."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence

from gatecast.server.admin_api.context import AdminContext
from gatecast.server.admin_api.events import outcome_view
from gatecast.storage.contract import Outcome

#: Most of the last shown events whose outcomes are watched.
MOST_EVENTS = 500

#: Pauses between two looks, in seconds: they grow while nothing is heard.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 15.0


class OutcomeWatch:
    """The outcomes that a stream has sent for the events that it has shown."""

    def __init__(self, context: AdminContext, shown: deque[tuple[str, int]]) -> None:
        self._context = context
        self._shown = shown
        #: The kind of outcome that was sent for each replica's report.
        self._said: OrderedDict[tuple[str, int, str], str] = OrderedDict()
        self._due: list[str] = []
        #: The offset up to which positions have passed shown events whose outcomes were looked up for that, by gateway.
        self._passed: dict[str, int] = {}
        self._newest: tuple[str, int] | None = None
        self._look_at = 0.0
        self._pause = _FIRST_PAUSE

    async def look(self) -> None:
        """Find new outcomes of the shown events."""
        now = asyncio.get_running_loop().time()
        if self._shown and self._shown[-1] != self._newest:
            self._newest, self._pause = self._shown[-1], _FIRST_PAUSE
            self._look_at = min(self._look_at, now + _FIRST_PAUSE)
        if not self._shown or now < self._look_at:
            return
        found = self._note(await self._context.hub.engine.outcomes.of_many(list(dict.fromkeys(self._shown))))
        self._pause = _FIRST_PAUSE if found else min(_LONGEST_PAUSE, self._pause * 1.5)
        self._look_at = now + self._pause

    async def before(self, confirmed: Mapping[str, int]) -> str:
        """The messages to send before these positions, or a rejected event would seem applied.

        Outcomes are stored before the positions that pass them, so those of shown events that are passed only now are
        there. `look` alone would be too late: it pauses longer the longer nothing is found.
        """
        passed = [each for each in dict.fromkeys(self._shown) if self._is_passed_now(*each, confirmed)]
        if passed:
            self._note(await self._context.hub.engine.outcomes.of_many(passed))
            self._passed |= {gateway_id: confirmed[gateway_id] for gateway_id, _ in passed}
        return await self.next_portion()

    def _is_passed_now(self, gateway_id: str, offset: int, confirmed: Mapping[str, int]) -> bool:
        now, before = confirmed.get(gateway_id, 0), self._passed.get(gateway_id, 0)
        # In another history, or after it was registered again, a gateway begins anew.
        return offset <= now and (offset > before or before > now)

    def _note(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether anything is new."""
        before = len(self._due)
        for outcome in outcomes:
            key = (outcome.gateway_id, outcome.offset, outcome.replica)
            if self._said.get(key) != outcome.kind:
                self._said[key] = outcome.kind
                self._said.move_to_end(key)
                self._due.append(_message(outcome))
        while len(self._said) > 4 * MOST_EVENTS:
            self._said.popitem(last=False)
        return len(self._due) > before

    async def next_portion(self) -> str:
        """The next part to send, as text; empty: there is none."""
        due, self._due = self._due, []
        return "".join(due)


def _message(outcome: Outcome) -> str:
    said = outcome_view(outcome).model_dump(mode="json", by_alias=True)
    data = {"gatewayId": outcome.gateway_id, "offset": outcome.offset, **said}
    return f"event: outcome\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
