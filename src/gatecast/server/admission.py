"""Limits on gateway connections, decided before the upgrade and without the database."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from gatecast.errors import TooManyAttempts, Unauthenticated
from gatecast.settings import Networks, Settings

#: Most addresses whose attempts are remembered; the least recently seen one is forgotten first.
_REMEMBERED_ADDRESSES = 10_000

#: Most good tokens that are remembered, by their digests.
_REMEMBERED_TOKENS = 1_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is not admitted. Always 429 or 503: anything in 401-422 would end the client's process."""

    status: int
    problem: str


class AttemptRate:
    """A token bucket for each address over all its attempts, good or bad (scenario S27)."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float]) -> None:
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str) -> bool:
        """Count one attempt; False when the address has used up its rate."""
        now = self._clock()
        level, then = self._buckets.pop(address, (self._capacity, now))
        level = min(self._capacity, level + (now - then) * self._per_second)
        allowed = level >= 1
        self._buckets[address] = (level - 1 if allowed else level, now)
        if len(self._buckets) > _REMEMBERED_ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed

    def give_back(self, address: str) -> None:
        """Return the last counted attempt: it was good, and good ones are not limited."""
        level, then = self._buckets.get(address, (self._capacity, self._clock()))
        self._buckets[address] = (min(self._capacity, level + 1), then)


class TokenAttempts:
    """Limits attempts with bad admin tokens per address, before the database is asked.

    A token that was good recently is always looked up, so that an attacker at the same address, or on the same proxy,
    locks out nobody who is already at work.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float]) -> None:
        self._limit = per_minute
        self._rate = AttemptRate(per_minute, clock=clock)
        self._good: OrderedDict[str, None] = OrderedDict()

    @asynccontextmanager
    async def counted(self, address: str, digest: str) -> AsyncIterator[None]:
        """Count the block, which looks up the token with this digest; if it raises Unauthenticated, the token was bad.

        Raises:
            TooManyAttempts: the address has used up its attempts.
        """
        is_counted = self._rate.allows(address)
        if not is_counted and digest not in self._good:
            raise TooManyAttempts(self._limit)
        try:
            yield
        except Unauthenticated:
            self._good.pop(digest, None)
            # It was a bad one.
            is_counted = False
            raise
        finally:
            if is_counted:
                self._rate.give_back(address)
        self._good[digest] = None
        self._good.move_to_end(digest)
        if len(self._good) > _REMEMBERED_TOKENS:
            self._good.popitem(last=False)


class Admission:
    """Counts what is connected, and says whether one more fits."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._rate = AttemptRate(settings.connect_rate, clock=clock)
        self._gateways: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._total = 0
        #: Set while the pod shuts down: new connections are refused.
        self.closed = False

    @property
    def connections(self) -> int:
        """How many gateway connections this pod holds, or is about to hold."""
        return self._total

    def attempt(self, address: str) -> Refusal | None:
        """Count one attempt, before the database is asked."""
        if not self._rate.allows(address):
            return Refusal(429, f"more than {self._settings.connect_rate:,} attempts a minute from one address")
        return self._full(address)

    def fits(self, gateway_id: str, address: str) -> Refusal | None:
        """Whether this gateway may open one more connection; asked again, because others may have opened since."""
        limit = self._settings.max_connections_per_gateway
        if self._gateways[gateway_id] >= limit:
            return Refusal(429, f"this gateway holds {limit:,} connections to this pod, the limit")
        return self._full(address)

    def _full(self, address: str) -> Refusal | None:
        if self.closed:
            return Refusal(503, "this pod is shutting down; connect again, to another one")
        if self._total >= self._settings.max_connections:
            return Refusal(503, f"this pod holds {self._settings.max_connections:,} connections, its limit")
        if self._addresses[address] >= self._settings.max_connections_per_address:
            return Refusal(
                429, f"{self._settings.max_connections_per_address:,} connections from one address are the limit"
            )
        return None

    @contextmanager
    def holding(self, gateway_id: str, address: str) -> Iterator[None]:
        """Count a connection for as long as the block runs."""
        self._total += 1
        self._gateways[gateway_id] += 1
        self._addresses[address] += 1
        try:
            yield
        finally:
            self._total -= 1
            _decrease(self._gateways, gateway_id)
            _decrease(self._addresses, address)


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def client_address(peer: str, forwarded_for: str, trusted: Networks) -> str:
    """The address that the limits count for.

    X-Forwarded-For is trusted only from a configured proxy, and only its last entry that is not such a proxy itself:
    the client can write everything to the left of it. At an entry that is not an address the search ends, and the last
    proxy counts.
    """
    known = _address(peer) or peer
    for entry in reversed(forwarded_for.split(",")):
        hop = _address(entry)
        if not is_trusted(known, trusted) or hop is None:
            break
        known = hop
    return known


def is_trusted(peer: str, trusted: Networks) -> bool:
    """Whether this peer is one of the configured proxies."""
    with suppress(ValueError):
        return any(ip_address(_address(peer) or peer) in network for network in trusted)
    return False


def _address(text: str) -> str | None:
    """The address without its port, IPv4-mapped addresses as IPv4; None if the text is not an address."""
    return _read_address(text) if len(text) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=1_000)
def _read_address(text: str) -> str | None:
    """As above. The same peers come again and again, and reading an address takes as long as a look at a token."""
    host = _without_port(text.strip())
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _without_port(text: str) -> str:
    match = _WITH_PORT.fullmatch(text)
    return text if match is None else match["host"] or match["address"]


#: Characters of an IPv6 address with its zone and a port; longer texts need not be remembered.
_LONGEST_ADDRESS = 100

_WITH_PORT = re.compile(r"\[(?P<address>[^\]]*)\](?::\d+)?|(?P<host>[^:]*):\d+", re.ASCII)
