"""Whatever any statement fails with, its caller is answered, every loop lives, and the others notice nothing (P11).

Each statement of the storage fails in turn, at first with an SQLSTATE that nobody knows and then with an exception that
nobody foresaw, while everything that a pod does is done. A statement that is added and not reached here fails a test.
"""

from __future__ import annotations

import asyncio
import sqlite3
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import uuid4

import httpx
import pytest

from gatecast.errors import GatecastError, InvariantBroken, StatementFailed, UnknownGateway
from gatecast.events import Action, Event, Position
from gatecast.hub import HubSubscription
from gatecast.server.pod import Pod
from gatecast.settings import Settings
from gatecast.storage.contract import (
    Claim,
    Connection,
    EventSearch,
    Outcome,
    OutcomeKind,
    ReadRequest,
    Remembered,
    TrimPolicy,
    Verdict,
)
from gatecast.storage.queries import Queries
from gatecast.testing.doubles.failing_statements import FailingStatements, plain
from gatecast.testing.eventually import PATIENCE

_TOKEN = "an-admin-token-for-tests"
_HEADERS = {"Authorization": f"Bearer {_TOKEN}"}

_FILES = {
    "postgres": ["queries.sql", "parking.sql", "survey.sql", "database.sql"],
    "sqlite": [
        "queries.sql",
        "parking.sql",
        "survey.sql",
        "presence.sql",
        "outcomes.sql",
        "retention.sql",
        "history.sql",
        "database.sql",
    ],
}

#: Run before a pod is up, or by `gatecast migrate`, or they are not statements whose failure a database can survive.
_BEFORE = {
    "postgres": {
        "lock_migrations",
        "prepare_migrations",
        "applied_migrations",
        "note_migration",
        "applied_functions",
        "note_functions",
        # Behind a pooler.
        "compile_nothing",
    },
    "sqlite": {
        "prepare_migrations",
        "applied_migrations",
        "note_migration",
        "use_wal",
        "sync_fully",
        "enforce_references",
        "only_read",
        # Without it a connection is of no more use: the driver itself would be broken.
        "roll_back",
        # When the write-ahead log has grown large.
        "wait_long",
        "wait_shortly",
        "empty_log",
    },
}


@pytest.fixture
def faults() -> Iterator[FailingStatements]:
    """Stands between the code and both drivers."""
    faults = FailingStatements()
    with faults.installed():
        yield faults


class _Scene:
    """One pod, and everything that it does."""

    def __init__(self, pod: Pod, api: httpx.AsyncClient) -> None:
        self.pod = pod
        self.api = api
        self.storage = pod.hub.storage
        self.delivery = pod.hub.delivery
        #: What steps were answered with.
        self.refused: list[GatecastError] = []

    def event(self, gateway_id: str, entity_id: str = "a") -> Event:
        return Event(
            gateway_id=gateway_id, type="route.changed", action=Action.UPDATE, entity_type="Route", entity_id=entity_id
        )

    async def exercise(self) -> None:
        """Do everything; each step may be answered with one of our errors, and with no other."""
        gateway_id = f"victim-{uuid4()}"
        for step in (
            self._register,
            self._publish,
            self._connect,
            self._park,
            self._retry_what_nobody_can_read,
            self._publish_in_a_transaction,
            self._look,
            self._history,
            self._clean_up,
            self._ask,
            self._end_with,
        ):
            await self._answered(step(gateway_id))

    async def _answered(self, step: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await step
        except InvariantBroken:
            raise
        except GatecastError as error:
            self.refused.append(error)
        assert not any("a secret" in str(error) for error in self.refused)

    async def _register(self, gateway_id: str) -> None:
        await self.pod.hub.register_gateway(gateway_id)

    async def _publish(self, gateway_id: str) -> None:
        """Culprit and innocents in one batch, and inside a transaction."""
        results = await asyncio.gather(
            *(self.pod.hub.publish([self.event(gateway_id, entity)]) for entity in "ab"),
            *(self.pod.hub.publish([self.event("innocent", entity)]) for entity in "cd"),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        await self.pod.hub.publish(self.event(gateway_id))

    async def _publish_in_a_transaction(self, gateway_id: str) -> None:
        """Of ours, with a part that is undone, and of a driver."""
        database: Any = self.storage.database
        async with database.transaction() as transaction:
            with suppress(UnknownGateway):
                await self.pod.hub.publish(self.event("nobody"), transaction)
            await self.pod.hub.publish(self.event(gateway_id), transaction)
        if hasattr(database, "path"):
            async with database._writing_turn():
                with closing(sqlite3.connect(database.path, isolation_level=None)) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    await self.pod.hub.publish(self.event(gateway_id), connection)
                    connection.execute("ROLLBACK")

    def _connection(self, gateway_id: str, protocol: str) -> Connection:
        return Connection(
            connection_id=str(uuid4()),
            gateway_id=gateway_id,
            replica="",
            pod_id=self.pod.settings.pod_id,
            protocol=protocol,
            remote="test",
            token_id="token",
        )

    async def _connect(self, gateway_id: str) -> None:
        for protocol in ("gatecast.v2", "gateway.v1"):
            opened = [
                await self.delivery.subscribe(self._connection(gateway_id, protocol), newest_only=newest_only)
                for newest_only in (False, True)
            ]
            for subscription in opened:
                with suppress(GatecastError, TimeoutError):
                    async with asyncio.timeout(1):
                        for event in await subscription.take(1):
                            subscription.report(event.offset, OutcomeKind.PARKED, "for a test")
                            subscription.mark_sent(event.offset)
                            subscription.acknowledge(event.offset)
                subscription.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await self.delivery.recorder.flush()

    async def _park(self, gateway_id: str) -> None:
        parking, outcomes = self.storage.parking, self.storage.outcomes
        for number, entity in enumerate("ab", 1):
            kinds = (OutcomeKind.PARKED, OutcomeKind.UNDELIVERABLE)
            await outcomes.record(
                [
                    Outcome(gateway_id=gateway_id, replica="", offset=number, kind=kind, reason="for a test")
                    for kind in kinds
                ]
            )
            await parking.parked(gateway_id, after=0, limit=10)
            await self.delivery.resolve(gateway_id, "", ("Route", entity), retry=number == 1)
        await self.storage.survey.summaries([gateway_id])
        await self.storage.survey.counts(slow_after=1.0, except_for="nobody")
        await self.storage.survey.beginning_with(gateway_id)
        await self.storage.survey.latencies([gateway_id], since=0.0)
        search = EventSearch(gateway_id=gateway_id, since=datetime.now(UTC), max_events=1, max_bytes=1)
        await self.storage.survey.search(search, confirmed=0)
        await parking.withheld(gateway_id, "", after=0, parks=False)
        await outcomes.record([Outcome(gateway_id=gateway_id, replica="", offset=3, kind=OutcomeKind.HELD, reason="")])
        await parking.withheld(gateway_id, "", after=0)

    async def _retry_what_nobody_can_read(self, gateway_id: str) -> None:
        async with self.storage.database.transaction() as transaction:
            schema: LiteralString = "gatecast_" if hasattr(self.storage.database, "path") else "gatecast."
            if schema == "gatecast.":
                # A release that had no rules in the table may have left such a row.
                await transaction.execute("ALTER TABLE gatecast.events DROP CONSTRAINT IF EXISTS events_action")
            await transaction.execute(f"UPDATE {schema}events SET action = 'EXPLODE' WHERE entity_id = 'b'")
        outcome = Outcome(gateway_id=gateway_id, replica="x", offset=2, kind=OutcomeKind.UNDELIVERABLE, reason="")
        await self.storage.outcomes.record([outcome])
        await self.delivery.resolve(gateway_id, "x", ("Route", "b"), retry=True)
        await self.storage.parking.withheld(gateway_id, "x", after=0)

    async def _look(self, gateway_id: str) -> None:
        await self.storage.log.is_held(gateway_id)
        await self.storage.log.find(gateway_id, [uuid4()])
        claim = Claim("an-outbox", str(uuid4()))
        await self.storage.log.claim(claim)
        await self.storage.log.register(gateway_id, claim=claim)
        await self.storage.log.forget(gateway_id, log_id=0)
        await self.storage.log.identity()
        await self.storage.database.is_outbox()
        await self.storage.log.publish([[self.event("innocent")]], wait=False, logs={"innocent": 0})
        await self.storage.outcomes.of_events(gateway_id, [1])
        await self.storage.outcomes.deliveries(gateway_id, 1)
        await self.storage.outcomes.of_many([(gateway_id, 1)])
        await self.storage.log.places([gateway_id], 0)
        # Many at once: for a few there is another statement.
        request = ReadRequest(gateway_id=gateway_id, after=0, max_events=1, max_bytes=1)
        await self.storage.log.read([request] * 20)
        await self.storage.presence.status([gateway_id, "innocent"])
        await self.storage.presence.resynchronized(gateway_id, "", "retention")
        await self.storage.presence.pods()
        await self.storage.database.ping()
        await self.storage.database.replication()

    async def _history(self, gateway_id: str) -> None:
        epoch = (await self.storage.log.changed_since(0)).epoch
        await self.storage.log.contradicts([Remembered(gateway_id=gateway_id, log_id=1, offset=1, event_id=uuid4())])
        await self.storage.log.record_history(epoch, Verdict.KEEP)
        await self.storage.log.renew_epoch(epoch)

    async def _clean_up(self, gateway_id: str) -> None:
        none = timedelta()
        await self.storage.log.trim(TrimPolicy(keep_confirmed=none, keep_at_most=timedelta(days=9), max_events=3))
        await self.storage.presence.renew_lease("another-pod", timedelta(seconds=-1))
        await self.storage.presence.renew_lease("another-pod", timedelta(seconds=-1))
        await self.storage.presence.end_lease("another-pod")
        assert gateway_id

    async def _ask(self, gateway_id: str) -> None:
        """No route answers that something went wrong here."""
        for path in ("", "?limit=1", "/innocent", "/innocent/events", "/innocent/why", "/innocent/parked"):
            answer = await self.api.get(f"/api/v1/gateways{path}")
            assert answer.status_code in (200, 404, 422, 503), answer.text
            assert "a secret" not in answer.text
        async with self.api.stream("GET", "/api/v1/events/stream") as stream:
            assert stream.status_code in (200, 503)
            async for _ in stream.aiter_lines():
                break
        assert gateway_id

    async def _end_with(self, gateway_id: str) -> None:
        await self.storage.presence.hint([gateway_id])
        await self.storage.presence.disconnect_connection(gateway_id, "nobody")
        await self.storage.presence.disconnect_token("token")
        await self.pod.hub.delete_gateway(gateway_id)
        await self.storage.log.trim(
            TrimPolicy(keep_confirmed=timedelta(9), keep_at_most=timedelta(9), max_events=10**6)
        )

    async def works(self) -> None:
        """An innocent gateway gets what is published to it now, and the pod is ready."""
        async with asyncio.timeout(PATIENCE):
            position = await self.pod.hub.publish(self.event("innocent"))
            assert isinstance(position, Position)
            async with self.pod.hub.subscribe("innocent", replica="innocent") as events:
                if events.resync_reason is not None:
                    await events.resynchronized()
                await _until(events, position.offset)
            while (answer := await self.api.get("/readyz")).status_code != httpx.codes.OK:
                await asyncio.sleep(0.05)
            assert answer.json()["problems"] == []
        assert self.delivery.failure is None


async def _until(events: HubSubscription, offset: int) -> None:
    async for event in events:
        events.acknowledge(event)
        if event.offset >= offset:
            return


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest) -> str:
    """A database of the test's own."""
    return str(request.getfixturevalue(f"{backend}_url"))


@asynccontextmanager
async def _scene(url: str) -> AsyncIterator[_Scene]:
    settings = Settings(
        database=url,
        api_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        gateway_tls="off",
        admin_token=_TOKEN,
        secret_key=b64encode(bytes(32)).decode(),
        migrate="always",
        drain_time=timedelta(seconds=1),
        poll_interval=timedelta(milliseconds=50),
    )
    async with AsyncExitStack() as stack:
        pod = await stack.enter_async_context(Pod.open(settings))
        api = await stack.enter_async_context(httpx.AsyncClient(base_url=pod.api_url, headers=_HEADERS, timeout=30))
        await pod.hub.register_gateway("innocent")
        await pod.hub.delivery.presence.ready.wait()
        yield _Scene(pod, api)


def _statements(backend: str, files: Sequence[str]) -> dict[str, str]:
    """Name to text of every statement that a running pod uses."""
    found: dict[str, str] = {}
    for file in files:
        queries = Queries(f"gatecast.storage.{backend}", file)
        found |= {f"{file}:{name}": queries[name] for name in queries.names}
    left_out = _BEFORE[backend]
    return {
        name: text for name, text in found.items() if name not in left_out and name.partition(":")[2] not in left_out
    }


@pytest.mark.timeout(600)  # Scores of failures, one after the other: long, also where nothing is slow.
@pytest.mark.parametrize("backend", ["postgres", "sqlite"])
async def test_a_statement_that_fails_for_unknown_reasons_ends_nothing(
    url: str, backend: str, faults: FailingStatements
) -> None:
    """One pod for all of them: it must be as well after the last one as it was before the first."""
    async with _scene(url) as scene:
        for name, text in sorted(_statements(backend, _FILES[backend]).items()):
            faults.fail(text)
            await scene.exercise()
            faults.stop()
            try:
                await scene.works()
            except BaseException as error:
                error.add_note(f"after {name} had failed {faults.failed} times")
                raise


@pytest.mark.parametrize("backend", ["postgres", "sqlite"])
async def test_every_statement_is_reached(url: str, backend: str, faults: FailingStatements) -> None:
    """So that none is forgotten above: a new statement needs a test that runs it."""
    async with _scene(url) as scene:
        await scene.exercise()
        assert scene.refused == []
        await scene.works()
    missed = {name for name, text in _statements(backend, _FILES[backend]).items() if plain(text) not in faults.ran}
    assert missed == set()
    assert faults.types_asked_for == 0


@pytest.mark.parametrize("backend", ["postgres", "sqlite"])
async def test_however_a_statement_is_run_its_failure_is_one_of_our_errors(
    url: str, faults: FailingStatements, backend: str
) -> None:
    """What the control plane and its routes run goes through these: whatever they state, now or later."""
    async with _scene(url) as scene:
        database, statement = scene.storage.database, "SELECT 1 AS one"
        faults.fail(statement)

        async def within(run: Callable[[Any], Awaitable[Any]]) -> None:
            async with database.transaction() as transaction:
                await run(transaction)

        for _ in range(2):
            for run in (
                database.fetch(statement),
                within(lambda transaction: transaction.fetch(statement)),
                within(lambda transaction: transaction.fetch_one(statement)),
                within(lambda transaction: transaction.execute(statement)),
            ):
                with pytest.raises(StatementFailed) as refused:
                    await run
                assert "a secret" not in str(refused.value) or backend == "sqlite"
        faults.stop()
        assert [dict(row) for row in await database.fetch(statement)] == [{"one": 1}]
