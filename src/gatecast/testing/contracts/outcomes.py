"""The contract of outcomes: what gateways said of single events."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from gatecast.storage.contract import Outcome, OutcomeKind
from gatecast.testing.contracts.backend import GATEWAY, OTHER_GATEWAY, EngineBackend, make_events, publish


def _applied(offset: int, replica: str = "", gateway_id: str = GATEWAY) -> Outcome:
    return Outcome(gateway_id=gateway_id, replica=replica, offset=offset, kind=OutcomeKind.APPLIED, reason="")


def _rejected(offset: int, reason: str = "no such template", replica: str = "") -> Outcome:
    return Outcome(gateway_id=GATEWAY, replica=replica, offset=offset, kind=OutcomeKind.REJECTED, reason=reason)


class OutcomesContract(EngineBackend):
    """`Outcomes`."""

    async def test_outcomes_are_found_by_offset(self, tmp_path: Path) -> None:
        """The outcomes of the events asked for come in offset order, with the time of their recording."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(4))
            await storage.outcomes.record([_applied(3), _rejected(1), _applied(4)])
            one, three = await storage.outcomes.of_events(GATEWAY, [3, 2, 1])
            assert (one.offset, one.kind, one.reason) == (1, OutcomeKind.REJECTED, "no such template")
            assert (three.offset, three.kind, three.reason) == (3, OutcomeKind.APPLIED, "")
            assert one.recorded_at is not None
            assert one.recorded_at.utcoffset() == timedelta(0)
            assert await storage.outcomes.of_events(GATEWAY, []) == []

    async def test_the_last_word_counts(self, tmp_path: Path) -> None:
        """A later outcome replaces the earlier one, also within one call."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(2))
            await storage.outcomes.record([_rejected(1), _applied(2), _rejected(2, "first"), _rejected(2, "last")])
            await storage.outcomes.record([_applied(1)])
            one, two = await storage.outcomes.of_events(GATEWAY, [1, 2])
            assert (one.kind, one.reason) == (OutcomeKind.APPLIED, "")
            assert (two.kind, two.reason) == (OutcomeKind.REJECTED, "last")

    async def test_every_replica_has_its_own_word(self, tmp_path: Path) -> None:
        """One replica may apply what another rejects."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(1))
            await storage.outcomes.record([_applied(1, "a"), _rejected(1, replica="b")])
            said = {outcome.replica: outcome.kind for outcome in await storage.outcomes.of_events(GATEWAY, [1])}
            assert said == {"a": OutcomeKind.APPLIED, "b": OutcomeKind.REJECTED}

    async def test_outcomes_of_many_events_are_those_of_the_first_hundred_replicas(self, tmp_path: Path) -> None:
        """Of each event; so nobody makes a page or a stream read without bounds."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(2), *make_events(1, OTHER_GATEWAY))
            names = [f"replica-{number:03}" for number in range(103)]
            await storage.outcomes.record([_applied(1, name) for name in reversed(names)])
            await storage.outcomes.record([_rejected(2), _applied(1, gateway_id=OTHER_GATEWAY)])
            found = await storage.outcomes.of_many([(GATEWAY, 1), (GATEWAY, 2), (OTHER_GATEWAY, 1)])
            assert (
                sorted(each.replica for each in found if (each.gateway_id, each.offset) == (GATEWAY, 1)) == names[:100]
            )
            rest = {(each.gateway_id, each.offset) for each in found} - {(GATEWAY, 1)}
            assert rest == {(GATEWAY, 2), (OTHER_GATEWAY, 1)}
            assert len(await storage.outcomes.of_events(GATEWAY, [1])) == len(names)

    async def test_an_outcome_of_no_event_is_dropped(self, tmp_path: Path) -> None:
        """An outcome of an event that is not in the log leaves no row; the rest of the call is stored."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(1))
            foreign = _applied(1, gateway_id=OTHER_GATEWAY)
            await storage.outcomes.record([_applied(2), foreign, _applied(1), _applied(1, gateway_id="unknown")])
            await publish(storage, *make_events(1), *make_events(1, OTHER_GATEWAY))
            assert [outcome.offset for outcome in await storage.outcomes.of_events(GATEWAY, [1, 2])] == [1]
            assert await storage.outcomes.of_events(OTHER_GATEWAY, [1]) == []
