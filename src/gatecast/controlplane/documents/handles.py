"""Names of artifacts on gateways (`metadata.name`)."""

from __future__ import annotations

import re
import unicodedata

from gatecast.controlplane.documents.refusals import InvalidDocument

#: Longest handle, in characters.
MAX_HANDLE_LENGTH = 253

#: Longest derived handle; the rest is for what makes it unique.
_MAX_DERIVED_LENGTH = 200

_PART = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
HANDLE_PATTERN = rf"^{_PART}(?:\.{_PART})*$"
_HANDLE = re.compile(HANDLE_PATTERN)


def derive_handle(name: str) -> str:
    """A valid handle that resembles a name; other names may have the same."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub("[^a-z0-9]+", "-", plain)[:_MAX_DERIVED_LENGTH].strip("-")
    return slug or "artifact"


def check_handle(handle: str) -> None:
    """Check a handle.

    Raises:
        InvalidDocument: no gateway would take it.
    """
    if len(handle) > MAX_HANDLE_LENGTH or not _HANDLE.fullmatch(handle):
        rule = (
            f"be 1 to {MAX_HANDLE_LENGTH} lower-case letters, digits, dots and dashes, dashes only inside a dotted part"
        )
        raise InvalidDocument("handle", handle, rule)
