"""A whole deployment: pods as processes on one database, and an operator for each of them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from gatecast.client import EventPublisher
from gatecast.settings import Settings
from gatecast.testing.operator import Operator
from gatecast.testing.pods import Pods, RunningPod
from gatecast.testing.processes.pod_template import shared_template
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.waiting import Backoff

_ADMIN_TOKEN = "an-admin-token-for-tests"  # noqa: S105 - opens nothing but what a test starts

#: Tests connect more often than gateways do.
_GENEROUS = {"connect_rate": "1000000", "drain_time": "8s"}

_IMPATIENT = Backoff(first=0.02, longest=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where pods keep what they have."""

    #: The URL of the database, or of the stream with the events.
    database: str
    #: The URL of the database beside the stream; empty if there is no stream.
    outbox: str = ""

    @classmethod
    def of(cls, site: str | Self) -> Self:
        """The site; a URL is that of a database with everything."""
        return cls(database=site) if isinstance(site, str) else site

    def settings(self, **others: Any) -> Settings:  # noqa: ANN401 - of the settings
        """The settings of a pod or hub here."""
        return Settings(database=self.database, outbox=self.outbox, **others)

    @property
    def tables(self) -> str:
        """The URL of the SQL database with the tables of pods."""
        return self.outbox or self.database


class Deployment:
    """Starts pods; opened with `async with`, and nothing is left of it afterwards.

    `settings` hold for every pod, written as in `Settings`: `poll_interval="1s"`.
    """

    def __init__(self, database: str | Site, **settings: str) -> None:
        site = Site.of(database)
        given = {**_GENEROUS, "outbox": site.outbox, **settings}
        self.pods = Pods(site.database, admin_token=_ADMIN_TOKEN, command=shared_template(), **given)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.pods)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def start(self, *names: str) -> list[RunningPod]:
        """Pods that start at the same time, ready."""
        return await self.pods.start_all(*names)

    async def operator(self, pod: RunningPod) -> Operator:
        """An operator who talks to this pod."""
        return await self._stack.enter_async_context(Operator(pod.api, _ADMIN_TOKEN))

    async def operators(self, *pods: RunningPod) -> list[Operator]:
        """An operator for each of these pods."""
        return [await self.operator(pod) for pod in pods]

    async def publishers(self, *pods: RunningPod) -> list[EventPublisher]:
        """A publisher at each of these pods, that gives up soon when its pod does not answer."""
        opened = [EventPublisher(pod.api, _ADMIN_TOKEN, backoff=_IMPATIENT) for pod in pods]
        return [await self._stack.enter_async_context(publisher) for publisher in opened]

    async def balancer(self, pod: RunningPod) -> TcpProxy:
        """A proxy between gateways and pods: leads to this pod's gateway listener until a test redirects it."""
        return await self._stack.enter_async_context(TcpProxy(gateway_address(pod)))


def gateway_address(pod: RunningPod) -> tuple[str, int]:
    """Where the pod's gateway listener is."""
    return address_of(pod.gateways)


def address_of(url: str) -> tuple[str, int]:
    """The host and port of a URL."""
    host, _, port = urlsplit(url).netloc.rpartition(":")
    return host, int(port)
