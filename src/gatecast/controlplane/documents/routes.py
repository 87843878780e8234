"""Under which hosts and paths a gateway serves an artifact, in a form in which two of them can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gatecast.controlplane.documents.contexts import VERSION

#: Where a gateway serves what names no host, unless it is configured otherwise (gateway-protocol.md 4.5).
DEFAULT_HOST = "*"
DEFAULT_SANDBOX_HOST = "sandbox-*"

#: Stands for these in the document of a REST API.
_GATEWAY_DEFAULT = "_gateway_default_"


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """One host, and the path under which an artifact answers there."""

    host: str
    context: str


def routes_of(hosts: Iterable[str], context: str | None, version: str) -> frozenset[Route]:
    """The routes of an artifact: hosts without letter case, the version in its place, no slash at the end."""
    path = (context or "/").replace(VERSION, version).rstrip("/") or "/"
    return frozenset(Route(normal_host(host), path) for host in hosts)


def normal_host(host: str) -> str:
    """Hosts differ neither by letter case nor by a dot at their end."""
    return host.lower().rstrip(".")


def hosts_in(written: str | None, default: str) -> Iterator[str]:
    """The hosts in a list with `;` in normal form; what is left out is the gateway's own."""
    for host in (written or default).split(";"):
        yield normal_host(default if host == _GATEWAY_DEFAULT else host)
