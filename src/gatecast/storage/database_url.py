"""What a database URL names. Nothing of a URL is ever repeated: wherever it is wrong, it may hold a password."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gatecast.errors import SettingInvalid
from gatecast.hiding import HIDDEN


class Backend(StrEnum):
    """The databases that there are."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUrl:
    """A database URL, taken apart."""

    backend: Backend
    #: The file of SQLite, or the folder of an embedded PostgreSQL; None: a PostgreSQL that runs somewhere.
    path: Path | None = None
    #: The URL of a PostgreSQL that runs somewhere.
    url: str = ""


_USER = r"[^\s@/?#:]*(:[^\s@/?#]*)?"
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^\s@:/?#,\[\]]*)(:[0-9]{1,5})?"
_PARAMETER = r"[A-Za-z_.]+=[^\s@?#&]*"
_POSTGRES = re.compile(
    rf"postgres(?:ql)?://(?:{_USER}@)?{_HOST}(?:,{_HOST})*(?:/[^\s@/?#]*)?(?:\?{_PARAMETER}(?:&{_PARAMETER})*)?"
)

_POSTGRES_FORM = "postgresql://user:password@host:5432/name"

#: How other tools write it, and what is said then.
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
    (re.compile(r"(?i)sqlite\+"), "be written sqlite:///file.db, without the name of a driver"),
    (re.compile(r"(?i)sqlite:"), "be written sqlite:///file.db, or sqlite:////folder/file.db for an absolute path"),
    (
        re.compile(r"(?i)postgres(ql)?://"),
        f"be written {_POSTGRES_FORM}, with special characters of user and password percent-encoded: @ is %40",
    ),
    (re.compile(""), "begin with sqlite:///, postgresql:// or postgresql+embedded:///"),
)


def parse(text: str) -> DatabaseUrl:
    """What the URL names.

    Raises:
        SettingInvalid: it names no database that is supported; says how it is written.
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
    """The refusal of a database URL, which "must …"."""
    return SettingInvalid("GATECAST_DATABASE", HIDDEN, rule)


def _is_path(path: str) -> bool:
    """Whether it names a file, and nothing else: no database in memory, which others cannot open, and no options."""
    return bool(path) and path.isprintable() and not path.startswith(":") and "?" not in path
