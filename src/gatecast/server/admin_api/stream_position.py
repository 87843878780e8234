"""The position of a stream of events, and its form as an id for clients."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote
from uuid import UUID

from gatecast.errors import InvalidValue
from gatecast.events import MAX_INTEGER

#: Longest accepted position, as text; positions of earlier releases named every gateway.
MAX_LENGTH = 32 * 1024

#: Every position begins with it, so that another form can follow.
_FORM = "2"

_OLD_FORM = re.compile(r"eJ[\w=-]{20,}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPosition:
    """How far a stream is in its round through the gateways, which it makes in the order of their ids.

    Its length does not depend on the number of gateways. A client that resumes from it misses nothing.
    """

    #: The history that the rest belongs to.
    epoch: UUID
    #: A short name of the copy of the tables.
    copy: str
    #: For every gateway, everything committed before this marker was shown …
    since: int
    #: … and for gateways before `gateway` also everything committed before this one.
    until: int
    #: The gateway that the round has come to; empty: the next round has not begun.
    gateway: str = ""
    #: In that gateway's log everything was shown …
    log_id: int = 0
    #: … up to here.
    offset: int = 0

    def __str__(self) -> str:
        numbers = (self.since, self.until, self.log_id, self.offset)
        return ".".join((_FORM, self.epoch.hex, self.copy, *map(str, numbers), quote(self.gateway, safe="")))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The position with this text form; None: one of an earlier release, which cannot be resumed.

        Raises:
            InvalidValue: none was.
        """
        if _OLD_FORM.fullmatch(text):
            return None
        try:
            form, epoch, copy, since, until, log_id, offset, gateway = text.split(".", 7)
            _check(_FORM, form)
            _check(r"[0-9a-f]{16}", copy)
            return cls(
                epoch=UUID(hex=epoch),
                copy=copy,
                since=_number(since),
                until=_number(until),
                gateway=unquote(gateway, errors="strict"),
                log_id=_number(log_id),
                offset=_number(offset),
            )
        except ValueError:
            raise InvalidValue("Last-Event-ID", text, "be the id of an earlier event of this stream") from None


def _check(pattern: str, text: str) -> None:
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError(text)


def _number(text: str) -> int:
    _check(r"\d{1,19}", text)
    if int(text) > MAX_INTEGER:
        raise ValueError(text)
    return int(text)
