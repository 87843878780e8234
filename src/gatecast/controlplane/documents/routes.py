"""Under which hosts and paths a gateway serves an artifact, in a form in which two of them can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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


#: Longest host and context of an artifact that was made on a gateway; longer ones are no artifact's of ours.
_MAX_HOST, _MAX_CONTEXT = 253, 200


def announced_routes(kind: str, specification: Mapping[str, object]) -> frozenset[Route]:
    """The routes in what a gateway says of an artifact of its own, as far as it can be read."""
    match kind:
        case "LlmProvider" | "LlmProxy" | "Mcp":
            hosts = [_text(specification, "vhost") or DEFAULT_HOST]
        case "RestApi":
            hosts = _announced_hosts(specification)
        case _:
            return frozenset()
    found = routes_of(hosts, _text(specification, "context"), _text(specification, "version"))
    return frozenset(each for each in found if len(each.host) <= _MAX_HOST and len(each.context) <= _MAX_CONTEXT)


def _announced_hosts(specification: Mapping[str, object]) -> list[str]:
    vhosts, upstream = specification.get("vhosts"), specification.get("upstream")
    main = list(hosts_in(_text(vhosts, "main") or None, DEFAULT_HOST))
    with_sandbox = isinstance(upstream, Mapping) and upstream.get("sandbox")
    return main + (list(hosts_in(_text(vhosts, "sandbox") or None, DEFAULT_SANDBOX_HOST)) if with_sandbox else [])


def _text(fields: object, name: str) -> str:
    value = fields.get(name) if isinstance(fields, Mapping) else None
    return value if isinstance(value, str) and value.isprintable() else ""
