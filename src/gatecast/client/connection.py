"""One `gatecast.v2` connection: moves frames between the socket and the protocol session."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import aiohttp

from gatecast.client.inbox import Inbox
from gatecast.client.progress import ClientProgress
from gatecast.client.socket import ClientSocket
from gatecast.errors import ProtocolViolation
from gatecast.events import Position
from gatecast.protocol.client_session import (
    ClientAction,
    ClientSession,
    Delivered,
    FrameUnreadable,
    Resynchronize,
    SendPong,
    Undeliverable,
    Welcomed,
)
from gatecast.protocol.close_codes import NORMAL
from gatecast.telemetry import get_logger
from gatecast.waiting import Signal

#: The connection is given up if the server does not take a frame within this time; in seconds.
_WRITE_TIME_LIMIT = 30.0

_GOODBYE = struct.pack("!H", NORMAL.number) + NORMAL.reason.encode()

_ENDED = (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.ERROR)

_logger = get_logger("client")


@dataclass(frozen=True, slots=True)
class ResyncDemand:
    """The server wants the desired state to be read anew."""

    #: Why, and where delivery continues.
    demand: Resynchronize
    #: The connection to notify when that is done.
    connection: ClientConnection


#: What waits for the user.
Incoming: TypeAlias = "Delivered | Undeliverable | ResyncDemand"


class ClientConnection:
    """Runs one connection from its first frame to its last.

    Two tasks: this one reads, and the writer alone writes. The writer computes what to send from what the user has
    acknowledged or rejected, so all acknowledgements between two writes are one frame.
    """

    def __init__(
        self,
        socket: ClientSocket,
        session: ClientSession,
        progress: ClientProgress,
        inbox: Inbox[Incoming],
    ) -> None:
        self._socket = socket
        self._session = session
        self._progress = progress
        self._inbox = inbox
        self._something_to_say = Signal()
        self._pong: bytes | None = None
        self._resynchronized = False
        self._leaving = False
        self._rejections = _SentRejections(progress)
        #: The unreadable frame that ended the connection.
        self.unreadable: FrameUnreadable | None = None
        #: Seconds during which the inbox was full and nothing was read: they do not count as silence of the server.
        self._not_reading = 0.0

    async def run(self) -> int | None:
        """Run until one side closes; return the code of the server's close frame, if there was one."""
        writer = asyncio.create_task(self._write(), name="gateway-client-writer")
        try:
            return await self._read()
        except ProtocolViolation as violation:
            _logger.warning("protocol-violation", problem=str(violation))
            self.unreadable = violation if isinstance(violation, FrameUnreadable) else None
            return None
        finally:
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer

    def acked(self) -> None:
        """Let the writer look at the progress again."""
        self._something_to_say.set()

    def resynchronized(self) -> None:
        """Tell the server that the desired state was read anew."""
        self._resynchronized = True
        self._something_to_say.set()

    def leave(self) -> None:
        """Send what is left to send, then close."""
        self._leaving = True
        self._something_to_say.set()

    # --- reading ------------------------------------------------------------------------------------------------

    async def _read(self) -> int | None:
        while True:
            message = await self._receive()
            if message.type in _ENDED:
                return None
            if message.type is aiohttp.WSMsgType.CLOSE:
                return int(message.data)
            actions = self._actions(message)
            for action in actions:
                await self._perform(action, _size(message) // len(actions))

    async def _receive(self) -> aiohttp.WSMessage:
        """The next frame; raises ProtocolViolation when the server is silent for too long."""
        while True:
            try:
                async with asyncio.timeout(self._session.next_tick_at - self._now()):
                    return await self._socket.receive()
            except TimeoutError:
                self._session.tick(self._now())

    def _actions(self, message: aiohttp.WSMessage) -> Sequence[ClientAction]:
        match message.type:
            case aiohttp.WSMsgType.TEXT:
                return self._session.receive_text(message.data, self._now())
            case aiohttp.WSMsgType.PING:
                return self._session.receive_ping(bytes(message.data), self._now())
            case aiohttp.WSMsgType.PONG:
                self._rejections.answered()
                self._something_to_say.set()
        return ()

    async def _perform(self, action: ClientAction, size: int) -> None:
        match action:
            case Delivered() | Undeliverable():
                if self._progress.is_new(action.position):
                    await self._put(action, size)
                # The user may have acknowledged it on the previous connection.
                self._something_to_say.set()
            case SendPong(payload):
                self._pong = payload
                self._something_to_say.set()
            case Resynchronize():
                # What waits belongs to the state that is going to be replaced.
                self._inbox.clear()
                await self._put(ResyncDemand(action, self), size)
            case Welcomed(gateway_id=gateway_id, connection_id=connection_id):
                _logger.info("connected", gateway=gateway_id, connection=connection_id)
                self._something_to_say.set()

    async def _put(self, item: Incoming, size: int) -> None:
        before = _time()
        await self._inbox.put(item, size=size)
        self._not_reading += _time() - before

    def _now(self) -> float:
        """The clock that measures the server's silence: it stands still while we do not read."""
        return _time() - self._not_reading

    # --- writing ------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Send until the connection ends; a writer that cannot go on also ends the reading."""
        try:
            await self._write_until_leaving()
        except (aiohttp.ClientError, OSError, TimeoutError):
            self._socket.abort()
        except Exception:
            self._socket.abort()
            raise

    async def _write_until_leaving(self) -> None:
        while not self._leaving:
            await self._something_to_say.wait()
            await self._say_everything()
        # Not `close`, which would end the reading: the server's own close frame does that.
        await self._socket.send_frame(_GOODBYE, aiohttp.WSMsgType.CLOSE)

    async def _say_everything(self) -> None:
        async with asyncio.timeout(_WRITE_TIME_LIMIT):
            if self._pong is not None:
                payload, self._pong = self._pong, None
                await self._socket.pong(payload)
            for text in self._answers():
                await self._socket.send_str(text)
            if self._rejections.must_ask():
                await self._socket.ping(b"rejections")

    def _answers(self) -> list[str]:
        """What the server does not know yet: rejections first, because an acknowledgement covers them."""
        sends = []
        if self._resynchronized:
            self._resynchronized = False
            sends += self._session.resynchronized()
        delivered, acked = self._session.delivered, self._progress.acked
        if delivered is not None and acked is not None and delivered.epoch == acked.epoch:
            for offset, reason in self._rejections.unsent(delivered.offset):
                sends += self._session.reject(Position(delivered.epoch, offset), reason)
            sends += self._session.acknowledge(Position(delivered.epoch, min(acked.offset, delivered.offset)))
        return [send.text for send in sends]


class _SentRejections:
    """Which rejections this connection has sent, and which of them the server has certainly stored.

    The server answers a Ping once it has stored the rejections before it. Until then a rejection is repeated on the
    next connection, which begins before the event.
    """

    def __init__(self, progress: ClientProgress) -> None:
        self._progress = progress
        self._sent: set[int] = set()
        self._asked: set[int] = set()

    def unsent(self, through: int) -> list[tuple[int, str]]:
        """Offset and reason of each rejection to send now; it counts as sent."""
        unsent = [
            (offset, reason)
            for offset, reason in self._progress.rejections.items()
            if offset <= through and offset not in self._sent
        ]
        self._sent.update(offset for offset, _ in unsent)
        return unsent

    def must_ask(self) -> bool:
        """True when a Ping is to be sent now; at most one is unanswered."""
        if self._asked or not self._sent:
            return False
        self._asked = set(self._sent)
        return True

    def answered(self) -> None:
        """Note that the server has stored everything before our Ping."""
        for offset in self._asked:
            self._progress.rejections.pop(offset, None)
        self._sent -= self._asked
        self._asked = set()


def _time() -> float:
    return asyncio.get_running_loop().time()


def _size(message: aiohttp.WSMessage) -> int:
    """Bytes of its text, which is what its events weigh; 0 for other frames."""
    if message.type is not aiohttp.WSMsgType.TEXT:
        return 0
    text: str = message.data
    return len(text) if text.isascii() else len(text.encode())
