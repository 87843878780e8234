"""How many connections this process has file descriptors for."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from gatecast.settings import Settings
from gatecast.telemetry import get_logger

if sys.platform != "win32":
    import resource

#: Descriptors reserved for everything except connections of peers: the database's, files, the event loop's.
OWN = 96

#: The limit that is assumed where the operating system has none.
_UNLIMITED = 1_048_576

_logger = get_logger("pod")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many connections each listener may hold at the same time."""

    #: Gateways' WebSockets.
    gateways: int
    #: Everything on the gateway listener: WebSockets, connections being admitted or refused, and HTTP requests.
    gateway_listener: int
    #: Everything on the API listener; gateways cannot use these up.
    api_listener: int

    def at_most(self, wanted: int) -> int:
        """Most requests of one kind that last: a quarter of the connections of the API, so that others get through."""
        return min(wanted, max(1, self.api_listener // 4))


def raise_limit() -> int:
    """Raise the soft limit on descriptors to the hard one; return what it is then."""
    if sys.platform == "win32":
        return _UNLIMITED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _UNLIMITED if hard == resource.RLIM_INFINITY else min(hard, _UNLIMITED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            # Some systems report a hard limit that they do not grant.
            wanted = soft
    return wanted if soft == resource.RLIM_INFINITY else max(soft, wanted)


def budget(settings: Settings, descriptors: int) -> Budget:
    """Divide the descriptors. If few, the API gets a quarter, and a fifth of the gateways' share is for refusals."""
    left = max(_FEWEST, descriptors - OWN)
    api = min(settings.max_api_connections, left // 4)
    gateway_listener = min(_places_for(settings.max_connections), left - api)
    gateways = min(settings.max_connections, gateway_listener - gateway_listener // 5)
    return Budget(gateways=gateways, gateway_listener=gateway_listener, api_listener=api)


def _places_for(gateways: int) -> int:
    return gateways * 5 // 4 + _FEWEST


#: With fewer, nothing would work.
_FEWEST = 32


def fitted(settings: Settings) -> tuple[Settings, Budget]:
    """The settings, limited to the gateway connections that descriptors allow, and the budget; logs what was cut."""
    descriptors = raise_limit()
    found = budget(settings, descriptors)
    if found.gateways < settings.max_connections:
        _logger.warning(
            "few-descriptors",
            descriptors=descriptors,
            max_connections=found.gateways,
            wanted=settings.max_connections,
            advice=f"raise `ulimit -n` to {sufficient(settings):,}, or lower GATECAST_MAX_CONNECTIONS",
        )
    return replace(settings, max_connections=found.gateways), found


def sufficient(settings: Settings) -> int:
    """How many descriptors all connections that the settings allow would need."""
    return _places_for(settings.max_connections) + settings.max_api_connections + OWN
