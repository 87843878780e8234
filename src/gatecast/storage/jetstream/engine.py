"""Opens a stream as an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Self
from uuid import uuid4

from gatecast.errors import DatabaseUnsuitable, SchemaTooNew, StatementFailed
from gatecast.storage.jetstream.connection import Connection
from gatecast.storage.jetstream.documents import History
from gatecast.storage.jetstream.gateways import Gateways
from gatecast.storage.jetstream.hints import StreamHints
from gatecast.storage.jetstream.log import JetStreamLog
from gatecast.storage.jetstream.outcomes import JetStreamOutcomes
from gatecast.storage.jetstream.parking import JetStreamParking
from gatecast.storage.jetstream.presence import JetStreamPresence
from gatecast.storage.jetstream.stream import Stale, Stream, StreamInfo, Write, raise_error
from gatecast.storage.jetstream.stream_config import check, check_max_payload, few_copies, wanted
from gatecast.storage.jetstream.subjects import Subjects
from gatecast.storage.jetstream.survey import JetStreamSurvey

#: The shape of the documents that this release writes.
SCHEMA = 1

#: The server's code when it has no such stream.
_NO_STREAM = 10059

#: Its codes when it cannot keep this many copies.
_TOO_FEW_SERVERS = {10074, 10005}

#: Its code when another pod has just created the stream, with a slightly different configuration.
_EXISTS = 10058


class JetStreamEngine:
    """One stream, and every contract of the log on it."""

    def __init__(self, stream: Stream) -> None:
        gateways = Gateways(stream)
        self.log = JetStreamLog(stream, gateways)
        self.presence = JetStreamPresence(stream, gateways)
        self.outcomes = JetStreamOutcomes(stream, gateways)
        self.parking = JetStreamParking(stream, gateways, self.outcomes)
        self.survey = JetStreamSurvey(stream, gateways, self.presence, self.outcomes)
        self.hints = StreamHints(stream)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, servers: list[str], name: str, *, replicas: int, user: str = "", password: str | None = None
    ) -> AsyncIterator[Self]:
        """The engine on the stream `name` of these servers, until the block ends; the stream is made if it is missing.

        Raises:
            StorageUnavailable: no server can be reached, or JetStream is off there.
            DatabaseUnsuitable: the stream's settings break the promises.
            SchemaTooNew: a newer release has written the stream.
        """
        async with Connection.open(servers, user=user, password=password) as connection:
            check_max_payload(connection.max_payload)
            stream = Stream(connection, Subjects(name))
            refuse_half_moved(await prepare(stream, replicas), name)
            yield cls(stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """Facts about a stream."""

    name: str
    copies: int
    messages: int


async def look(
    servers: list[str], name: str, *, replicas: int, user: str = "", password: str | None = None
) -> StreamFacts | None:
    """The servers' facts about the stream; None if they have none of this name. Creates no stream.

    Raises:
        StorageUnavailable: no server can be reached, or JetStream is off there.
        DatabaseUnsuitable: the stream's settings break the promises.
    """
    async with Connection.open(servers, user=user, password=password) as connection:
        check_max_payload(connection.max_payload)
        answer = await connection.ask(f"$JS.API.STREAM.INFO.{name}", {})
    if answer.get("error", {}).get("err_code") == _NO_STREAM:
        return None
    raise_error(answer)
    check(answer["config"], name, replicas)
    return StreamFacts(name=name, copies=answer["config"]["num_replicas"], messages=answer["state"]["messages"])


async def prepare(stream: Stream, replicas: int) -> History:
    """The history of the stream, which is created if it is missing; an unsuitable stream is refused."""
    name = stream.subjects.name
    await _make(stream, name, replicas)
    info = await stream.info()
    check(info.config, name, replicas)
    if info.last_sequence == 0:
        await _begin_history(stream, info)
        info = await stream.info()
    # Not from a replica that has less than there was just now, as nothing at all of a stream that is new.
    stream.floor = max(stream.floor, info.last_sequence)
    found = (await stream.fresh([stream.subjects.history])).messages
    if not found:
        raise DatabaseUnsuitable(
            f"the stream {name} holds messages, but not its history",
            "restore it from a backup, or name another stream at the end of the URL",
        )
    history = History.decode(found[stream.subjects.history].data)
    if history.schema > SCHEMA:
        raise SchemaTooNew(history.schema, SCHEMA)
    return history


def refuse_half_moved(history: History, name: str) -> None:
    """Return if no log is being moved into the stream.

    Raises:
        DatabaseUnsuitable: one is.
    """
    if history.moving:
        raise DatabaseUnsuitable(
            f"a log is being moved into the stream {name}",
            "repeat `gatecast move-log` if that was interrupted, or give it up with --undo",
        )


async def _make(stream: Stream, name: str, replicas: int) -> None:
    answer = await stream.connection.ask(f"$JS.API.STREAM.INFO.{name}", {})
    if answer.get("error", {}).get("err_code") != _NO_STREAM:
        return
    answer = await stream.connection.ask(f"$JS.API.STREAM.CREATE.{name}", wanted(name, replicas))
    error = answer.get("error", {})
    if error.get("err_code") in _TOO_FEW_SERVERS:
        raise few_copies(name, f"cannot keep ({error.get('description')}) all", replicas)
    if error and error.get("err_code") != _EXISTS:
        raise StatementFailed(f"JetStream made no stream {name}: {error.get('description')}")


async def _begin_history(stream: Stream, info: StreamInfo) -> None:
    epoch = str(uuid4())
    history = History(schema=SCHEMA, epoch=epoch, created=info.created, lineage=[epoch], first=epoch)
    # Another pod may be faster.
    with suppress(Stale):
        await stream.write(Write(subject=stream.subjects.history, data=history.encode(), expect=0))
