"""Reads database URLs. No error repeats any part of a URL: wherever it is wrong, a password may be in that part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gatecast.errors import SettingInvalid
from gatecast.hiding import HIDDEN


class Backend(StrEnum):
    """The supported databases."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUrl:
    """The database that a URL names."""

    backend: Backend
    #: The SQLite file, or the folder of an embedded PostgreSQL; None for a PostgreSQL server.
    path: Path | None = None
    #: The URL of a PostgreSQL server; empty for the others.
    url: str = ""


_USER = r"[^\s@/?#:]*(:[^\s@/?#]*)?"
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^\s@:/?#,\[\]]*)(:[0-9]{1,5})?"
_PARAMETER = r"[A-Za-z_.]+=[^\s@?#&]*"
_POSTGRES = re.compile(
    rf"postgres(?:ql)?://(?:{_USER}@)?{_HOST}(?:,{_HOST})*(?:/[^\s@/?#]*)?(?:\?{_PARAMETER}(?:&{_PARAMETER})*)?"
)

_POSTGRES_FORM = "postgresql://user:password@host:5432/name"

#: How other tools write a database URL, and the advice for each, as a phrase that continues "must …".
_ADVICE = (
    (
        re.compile(r"(?i)postgres(ql)?\+(?!embedded)"),
        f"be written {_POSTGRES_FORM}, without the name of a driver that SQLAlchemy wants",
    ),
    (re.compile(r"(?i)jdbc:"), f"be written {_POSTGRES_FORM}, without `jdbc:` and with the user in front of the host"),
    (
        re.compile(r"(?i)(?!\w+:/)(?=.*\b(host|hostaddr|dbname|user|password|port|service)\s*=)"),
        f"be written {_POSTGRES_FORM}, not as key=value",
    ),
    (
        re.compile(r"(?i)nats:"),
        "name an SQL database here, because pods and commands keep tables; EventHub.open of the library takes nats://…",
    ),
    (re.compile(r"(?i)sqlite\+"), "be written sqlite:///file.db, without the name of a driver"),
    (re.compile(r"(?i)sqlite:"), "be written sqlite:///file.db, or sqlite:////folder/file.db for an absolute path"),
    (
        re.compile(r"(?i)postgres(ql)?://"),
        f"be written {_POSTGRES_FORM}, with special characters of user and password percent-encoded: @ is %40",
    ),
    (re.compile(""), "begin with sqlite:///, postgresql:// or postgresql+embedded:///"),
)


def parse(text: str) -> DatabaseUrl:
    """The database that a URL names.

    Raises:
        SettingInvalid: it names no supported database; the error says how to write it.
    """
    text = text.strip()
    scheme, _, path = text.partition(":///")
    if scheme == "sqlite" and _is_path(path):
        return DatabaseUrl(backend=Backend.SQLITE, path=Path(path))
    if scheme == "postgresql+embedded" and _is_path(path):
        return DatabaseUrl(backend=Backend.POSTGRESQL, path=Path(path))
    if _POSTGRES.fullmatch(text):
        return DatabaseUrl(backend=Backend.POSTGRESQL, url=text)
    raise invalid(next(advice for form, advice in _ADVICE if form.match(text)))


def invalid(rule: str) -> SettingInvalid:
    """The error for a database URL that breaks this rule; the rule continues "must …"."""
    return SettingInvalid("GATECAST_DATABASE", HIDDEN, rule)


def _is_path(path: str) -> bool:
    """Whether it is only a path: neither a database in memory, which no other process can open, nor with options."""
    return bool(path) and path.isprintable() and not path.startswith(":") and "?" not in path
