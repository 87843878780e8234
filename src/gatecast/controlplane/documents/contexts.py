"""Under which path a gateway serves an artifact."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, StringConstraints

from gatecast.controlplane.documents.handles import derive_handle
from gatecast.controlplane.documents.refusals import refused

#: Stands for the version inside a context.
VERSION = "$version"

_RESERVED = "/_gateway-health"


def _not_reserved(context: str) -> str:
    if is_reserved(context):
        raise refused(f"not lie under {_RESERVED}")
    return context


def is_reserved(path: str) -> bool:
    """Whether a path belongs to the gateway itself."""
    return f"{path}/".startswith(f"{_RESERVED}/")


#: `/name`, in any number of segments; `$version` is replaced by the version.
Context = Annotated[
    str,
    StringConstraints(max_length=200, pattern=r"^(/([A-Za-z0-9_-]|\$version)+)+$"),
    AfterValidator(_not_reserved),
]
#: The same, or `/` alone.
RootContext = Annotated[
    str,
    StringConstraints(max_length=200, pattern=r"^(/|(/([A-Za-z0-9_-]|\$version)+)+)$"),
    AfterValidator(_not_reserved),
]


def default_context(fields: dict[str, Any]) -> str:
    """The context of an artifact that has a name and says no more."""
    return f"/{derive_handle(fields['name']).replace('.', '-')}"


def check_paths(context: str | None, paths: Iterable[tuple[str, tuple[str | int, ...]]]) -> None:
    """Check that no path, each given with its place, reaches what belongs to the gateway.

    Raises:
        ValidationError: at the path at fault.
    """
    for path, place in paths:
        if is_reserved((context or "").rstrip("/") + path):
            raise refused(f"not lie under {_RESERVED}", *place)
