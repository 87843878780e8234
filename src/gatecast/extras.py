"""What parts of Gatecast need beyond the library: extras. The error for a missing one names it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType

#: The modules that each extra brings, as they are imported.
EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "server": (
            "aiohttp",
            "cryptography",
            "fastapi",
            "httptools",
            "jinja2",
            "jsonschema",
            "jwt",
            "pydantic",
            "python_multipart",
            "uvicorn",
        ),
        "client": ("aiohttp",),
        "cli": ("aiohttp", "rich", "typer"),
        "testing": ("aiohttp", "fastapi", "jsonschema", "pydantic", "time_machine", "yaml"),
    }
)


class ExtraMissing(ImportError):
    """A part of Gatecast is not installed."""

    def __init__(self, extra: str, modules: list[str]) -> None:
        super().__init__(
            f"{', '.join(modules)} {'is' if len(modules) == 1 else 'are'} not installed; "
            f'run: pip install "gatecast[{extra}]"',
            name=modules[0],
        )
        #: The extra that brings what is missing.
        self.extra = extra


def require(extra: str) -> None:
    """Return if all modules of an extra can be imported; does not import them.

    Raises:
        ExtraMissing: something is not installed; names the extra that brings it.
    """
    if missing := [module for module in EXTRAS[extra] if find_spec(module) is None]:
        raise ExtraMissing(extra, missing)
