"""The conversations of one listener: each begins with a request, and outlives its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web

from gatecast.telemetry import get_logger

#: How a conversation says before its end what its request is answered.
GiveAnswer: TypeAlias = Callable[[web.StreamResponse], None]

#: The work that begins with a request; it returns the answer, unless it gave that before.
Conversation: TypeAlias = Callable[[GiveAnswer], Awaitable[web.StreamResponse]]

#: A conversation that is cut leaves within this time, in seconds; its database may hang.
_CUT_WITHIN = 0.1

_logger = get_logger("gateway-api")


class Conversations:
    """The running conversations, so that stopping the listener can wait for them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._ends_at = 0.0

    async def begin(self, conversation: Conversation) -> web.StreamResponse:
        """The answer to the request; cancelling this before the answer is known ends the conversation."""
        answer: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(_run(conversation, answer), name="conversation")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await answer
        except asyncio.CancelledError:
            task.cancel()
            raise

    def end_within(self, seconds: float) -> None:
        """End them within this time from now on."""
        self._ends_at = asyncio.get_running_loop().time() + seconds

    async def end(self, _app: web.Application) -> None:
        """Wait for them within their time, and cut those that take longer."""
        await self._wait(max(0.0, self._ends_at - asyncio.get_running_loop().time()))
        for task in self._running:
            task.cancel()
        await self._wait(_CUT_WITHIN)

    async def _wait(self, seconds: float) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)


#: The conversations of an application.
CONVERSATIONS: web.AppKey[Conversations] = web.AppKey("conversations", Conversations)


async def _run(conversation: Conversation, answer: asyncio.Future[web.StreamResponse]) -> None:
    """Answer the request with what comes of the conversation; what fails after the answer fails here."""

    def give(found: web.StreamResponse) -> None:
        if not answer.done():
            answer.set_result(found)

    begun = conversation(give)
    # It was made for the request, which nothing here may keep.
    del conversation
    try:
        give(await begun)
    except asyncio.CancelledError:
        answer.cancel()
        raise
    except Exception as error:
        if answer.done():
            _logger.exception("conversation-failed")
        else:
            answer.set_exception(error)
