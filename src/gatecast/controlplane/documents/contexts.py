"""Under which path a gateway serves an artifact."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import AfterValidator, StringConstraints

from gatecast.controlplane.documents.handles import derive_handle
from gatecast.controlplane.documents.refusals import Broken, refused

#: Stands for the version inside a context.
VERSION = "$version"

_RESERVED = "/_gateway-health"


def _not_reserved(context: str) -> str:
    if is_reserved(context):
        raise refused(f"not lie under {_RESERVED}")
    return context


def is_reserved(path: str) -> bool:
    """Whether a path belongs to the gateway itself once it is resolved, as a gateway resolves those of requests."""
    return any(f"{_resolved(each)}/".startswith(f"{_RESERVED}/") for each in (path, unquote(path)))


def _resolved(path: str) -> str:
    # Two slashes in front mean something of their own to posixpath.
    return posixpath.normpath("/" + path.lstrip("/"))


def _whole(context: str) -> str:
    if not _API_CONTEXT.fullmatch(context):
        raise refused(
            'be "/", or segments that each begin with "/", are neither "." nor "..", and are made of letters, digits, '
            "._~!&,;=:@- and $version; no blanks, control characters, braces, %, ? or #, and no / at the end"
        )
    return context


#: The contexts that gateways accept, except those that they take for patterns or that requests spell differently.
_API_CONTEXT = re.compile(r"/|(?:/(?!\.{1,2}(?:/|\Z))(?:[A-Za-z0-9._~!&,;=:@-]|\$version)+)+")

#: Context of REST APIs and MCP proxies (gateway-protocol.md 4.5, 4.6); `$version` is replaced by the version.
ApiContext = Annotated[str, StringConstraints(max_length=200), AfterValidator(_whole), AfterValidator(_not_reserved)]
#: Context of LLM kinds: `/`, or `/name` in any number of segments.
LlmContext = Annotated[
    str,
    StringConstraints(max_length=200, pattern=r"^(/|(/([A-Za-z0-9_-]|\$version)+)+)$"),
    AfterValidator(_not_reserved),
]


class DerivedContext(str):
    """A derived context: if it is taken, another one replaces it."""

    __slots__ = ()


def default_context(fields: dict[str, Any]) -> str:
    """The default context, derived from the artifact's name."""
    # pydantic 2.12.0 also asks when the name is refused, which is what the error is about.
    return DerivedContext(f"/{derive_handle(fields.get('name', ''))}")


def reserved_paths(context: str | None, paths: Iterable[tuple[str, tuple[str | int, ...]]]) -> Iterator[Broken]:
    """Paths, each given with its place, that reach what belongs to the gateway."""
    for path, place in paths:
        if is_reserved((context or "").rstrip("/") + path):
            yield Broken(f"not lie under {_RESERVED}", place)
