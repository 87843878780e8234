"""What is looked after while a gateway is connected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest

from gatecast.controlplane.access.gateway_tokens import GatewayIdentity
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.transactions.clock import milliseconds
from gatecast.delivery.resume import Start
from gatecast.delivery.subscription import Subscription
from gatecast.errors import NotFound, SecretKeyMissing, StorageUnavailable, UnknownGateway
from gatecast.events import Position, RecordedEvent
from gatecast.server.gateway_api import deployment_observer, persistence
from gatecast.server.gateway_api.deployment_observer import DeploymentObserver
from gatecast.server.gateway_api.holding import Watch
from gatecast.waiting import Backoff, Signal

IDENTITY = GatewayIdentity(organization="acme", gateway_id="edge", token_id="1", newest_only=False)
START = Position(UUID(int=7), 5)

#: What follows in any case: what the gateway said is stored, and what it did not say is looked for.
SETTLED = ("flush", "unanswered acme edge 5")


class _Resources:
    """Notes what is asked of it; each kind of work fails as often as it is told, because the database is away."""

    def __init__(
        self, *, failures: int = 0, ends: Sequence[int | None] = (None,), others_published: bool = False
    ) -> None:
        self.desired_state = self.acknowledgements = self.keys = self.foreign_events = self
        self._others_published = others_published
        self.calls: list[str] = []
        self.looks: list[tuple[str, str, int]] = []
        self.outlived: list[set[tuple[str, str]]] = []
        self.changed = asyncio.Event()
        self._failures = failures
        self._ends = iter(ends)

    async def lost(self, organization: str, gateway_id: str, _reason: str) -> int:
        return self._call(f"all {organization} {gateway_id}", 3)

    async def answered_nothing(self, organization: str, gateway_id: str, confirmed: int) -> int | None:
        self._call(f"unanswered {organization} {gateway_id} {confirmed}", 0)
        return next(self._ends)

    async def note(self, gateway_id: str, reason: str) -> bool:
        self._call(f"note {gateway_id} {reason}", 0)
        return self._others_published

    async def flush(self) -> None:
        self._call("flush", 0)

    async def resynchronized(self) -> None:
        self._call("resynchronized", 0)

    async def outlive_revocations(self, _organization: str, _gateway_id: str, revoked: set[tuple[str, str]]) -> None:
        self.outlived.append(revoked)

    async def look_again(self, organization: str, gateway_id: str, since: int) -> None:
        self.looks.append((organization, gateway_id, since))
        if len(self.looks) == 1:
            raise StorageUnavailable("away")

    def _call(self, name: str, result: int) -> int:
        self.calls.append(name)
        self.changed.set()
        if self._failures:
            self._failures -= 1
            raise StorageUnavailable("away")
        return result


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for."""
    monkeypatch.setattr(deployment_observer, "KEY_LOOKS", (0.0, 0.0))
    monkeypatch.setattr(persistence, "_PAUSES", Backoff(first=0.0, longest=0.0))


class _Over:
    """A gateway that makes no start-up calls, which is known at once."""

    synchronizes = holds = False

    def __init__(self) -> None:
        self.over = asyncio.get_running_loop().create_future()
        self.over.set_result(None)

    async def run(self) -> None:
        """There is nothing to wait for."""


def recorded(offset: int, event_type: str, payload: object = None) -> RecordedEvent:
    """An event as it is sent."""
    data = {"apiId": "api", "keyName": f"key-{offset}"} if payload is None else payload
    return cast("RecordedEvent", SimpleNamespace(offset=offset, type=event_type, payload=json.dumps(data)))


class _Subscription:
    """Notes what no stored position passes."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.changed = Signal()
        self.unsettled: list[int] = []

    def set_aside(self, offset: int) -> None:
        self.unsettled.append(offset)

    def settled(self, offset: int) -> None:
        self.unsettled.remove(offset)


def observer(
    control_plane: _Resources,
    *,
    lost: str | None = None,
    watch: Watch | None = None,
    subscription: _Subscription | None = None,
) -> DeploymentObserver:
    held = cast("Subscription", subscription or _Subscription(Start(START, lost)))
    return DeploymentObserver(cast("ControlPlane", control_plane), IDENTITY, held, watch)


async def test_keys_are_looked_at_twice_while_an_unmodified_gateway_is_connected() -> None:
    control_plane = _Resources()
    began = milliseconds()
    await observer(control_plane).reconcile_when_read(control_plane.resynchronized)
    assert [look[:2] for look in control_plane.looks] == [("acme", "edge")] * 2
    assert all(began - 60_000 < since < began for *_, since in control_plane.looks)


_WATCH = cast("Watch", SimpleNamespace())


async def test_a_revocation_counts_as_handled_once_its_namesakes_are_told_anew() -> None:
    """A slower replica may handle it after a faster one had everything. A crash in between brings it again."""
    control_plane, subscription = _Resources(), _Subscription(Start(START, None))
    ours = observer(control_plane, watch=_WATCH, subscription=subscription)
    ours.sent([recorded(6, "api.deployed"), recorded(7, "apikey.revoked"), recorded(8, "apikey.created")])
    ours.sent([recorded(9, "apikey.revoked"), recorded(10, "apikey.revoked")])
    seven, nine, ten = ({("api", f"key-{offset}")} for offset in (7, 9, 10))
    for offset, outlived, unsettled in (
        (6, [], [7, 9, 10]),
        (8, [seven], [9, 10]),
        (8, [seven], [9, 10]),
        (12, [seven, nine | ten], []),
    ):
        ours.confirmed(offset)
        while asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.sleep(0)
        assert (control_plane.outlived, subscription.unsettled) == (outlived, unsettled)


async def test_what_is_confirmed_while_the_database_is_away_is_done_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control_plane, subscription = _Resources(), _Subscription(Start(START, None))
    fails, outlive = [True, True, False, False], control_plane.outlive_revocations

    async def away(organization: str, gateway_id: str, revoked: set[tuple[str, str]]) -> None:
        if fails.pop(0):
            ours.confirmed(8)
            raise StorageUnavailable("away")
        await outlive(organization, gateway_id, revoked)

    monkeypatch.setattr(control_plane, "outlive_revocations", away)
    ours = observer(control_plane, watch=_WATCH, subscription=subscription)
    ours.sent([recorded(7, "apikey.revoked"), recorded(8, "apikey.revoked")])
    ours.confirmed(7)
    while asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.sleep(0)
    assert control_plane.outlived == [{("api", "key-7")}, {("api", "key-8")}]
    assert subscription.unsettled == []


async def test_clients_that_share_nothing_with_replicas_are_told_nothing_anew() -> None:
    control_plane, subscription = _Resources(), _Subscription(Start(START, None))
    ours = observer(control_plane, subscription=subscription)
    ours.sent([recorded(7, "apikey.revoked")])
    ours.confirmed(7)
    assert (asyncio.all_tasks() - {asyncio.current_task()}, subscription.unsettled) == (set(), [])


@pytest.mark.parametrize("payload", [[], "text", 7, {}, {"apiId": 1, "keyName": "a"}, {"apiId": "a", "keyName": None}])
async def test_a_revocation_that_somebody_else_has_written_otherwise_holds_nothing_back(payload: object) -> None:
    control_plane, subscription = _Resources(), _Subscription(Start(START, None))
    ours = observer(control_plane, watch=_WATCH, subscription=subscription)
    ours.sent([recorded(7, "apikey.revoked", payload)])
    assert subscription.unsettled == []


async def test_what_waits_for_the_database_ends_with_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """And comes again: its position does not pass the revocation."""
    control_plane, asked, subscription = _Resources(), asyncio.Event(), _Subscription(Start(START, None))

    async def away(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(control_plane, "outlive_revocations", away)
    ours = observer(control_plane, watch=_WATCH, subscription=subscription)
    before = asyncio.all_tasks()
    ours.sent([recorded(6, "apikey.revoked")])
    ours.confirmed(6)
    await asked.wait()
    [renewal] = asyncio.all_tasks() - before
    ours.close()
    await asyncio.wait([renewal])
    assert renewal.cancelled()
    assert subscription.unsettled == [6]


@pytest.mark.parametrize("error", [SecretKeyMissing(), NotFound("gateway", "edge"), UnknownGateway("edge")])
async def test_a_pod_that_cannot_tell_anew_holds_nothing_back(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    control_plane, subscription = _Resources(), _Subscription(Start(START, None))

    async def unable(*_: object) -> None:
        raise error

    monkeypatch.setattr(control_plane, "outlive_revocations", unable)
    ours = observer(control_plane, watch=_WATCH, subscription=subscription)
    ours.sent([recorded(6, "apikey.revoked")])
    ours.confirmed(6)
    while asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.sleep(0)
    assert subscription.unsettled == []


async def test_a_gateway_whose_position_was_lost_is_told_everything_before_that_counts_as_done() -> None:
    control_plane = _Resources(failures=2)
    await observer(control_plane, lost="retention").reconcile_when_read(control_plane.resynchronized)
    assert control_plane.calls == ["all acme edge"] * 3 + ["note edge retention", "resynchronized", *SETTLED]


async def test_what_others_published_is_noted_as_lost_before_the_position_counts_as_made_good() -> None:
    """In the other order a pod that dies in between would leave a gateway that counts as current and is not."""
    control_plane = _Resources(others_published=True)
    await observer(control_plane, lost="epoch").reconcile_when_read(control_plane.resynchronized)
    assert control_plane.calls == ["all acme edge", "note edge epoch", "resynchronized", *SETTLED]


async def test_what_was_told_is_not_told_again_because_noting_it_failed() -> None:
    control_plane = _Resources()
    noted: list[int] = []

    async def note() -> None:
        noted.append(1)
        if len(noted) == 1:
            raise StorageUnavailable("away")

    await observer(control_plane, lost="epoch").reconcile_when_read(note)
    assert (control_plane.calls, len(noted)) == (["all acme edge", "note edge epoch", *SETTLED], 2)


async def test_what_is_unanswered_is_looked_for_again_once_the_backlog_is_handled() -> None:
    control_plane = _Resources(failures=1, ends=(9, None))
    ours = observer(control_plane)
    task = asyncio.create_task(ours.reconcile_when_read(control_plane.resynchronized))
    while len(control_plane.calls) < 3:
        control_plane.changed.clear()
        await control_plane.changed.wait()
    ours.confirmed(8)
    assert not task.done()
    ours.confirmed(9)
    await task
    assert control_plane.calls == ["flush", "flush", "unanswered acme edge 5", "flush", "unanswered acme edge 9"]


async def test_a_backlog_that_was_handled_meanwhile_is_not_waited_for() -> None:
    control_plane = _Resources(ends=(9, None))
    ours = observer(control_plane)
    ours.confirmed(12)
    await ours.reconcile_when_read(control_plane.resynchronized)
    assert control_plane.calls == ["flush", "unanswered acme edge 12", "flush", "unanswered acme edge 9"]


@pytest.mark.parametrize("error", [SecretKeyMissing(), NotFound("gateway", "edge"), UnknownGateway("edge")])
async def test_what_cannot_be_done_for_a_gateway_ends_nothing_else(error: Exception) -> None:
    """It was deleted meanwhile, or the pod lacks the key: it is left as it is, and events that waited go out."""
    control_plane = _Resources()

    async def fail(*_: object) -> int:
        raise error

    control_plane.lost = fail  # type: ignore[assignment,method-assign]
    ours = observer(control_plane, lost="retention", watch=cast("Watch", _Over()))
    await ours.reconcile_when_read(control_plane.resynchronized)
    assert control_plane.calls == []
    assert not ours.holds
    assert len(control_plane.looks) == 2
