"""Reads the URL of a stream of NATS JetStream. No error repeats any part of it: a password may be in that part."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from gatecast.storage.database_url import invalid

#: The stream of a URL that names none.
DEFAULT_STREAM = "GATECAST"

#: The copies that a URL asks for which says nothing.
DEFAULT_REPLICAS = 3

_SERVER = r"(?:[^\s@/?#:,]+(?::[^\s@/?#,]*)?@)?(?:\[[0-9A-Fa-f:.]+\]|[^\s@:/?#,\[\]]+)(?::[0-9]{1,5})?"
_FORM = re.compile(
    rf"nats://(?P<servers>{_SERVER}(?:,{_SERVER})*)(?:/(?P<stream>[A-Za-z0-9_-]{{1,64}})?)?(?:\?replicas=(?P<replicas>[135]))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamUrl:
    """The stream that a URL names."""

    #: Each as a URL of its own, without the user.
    servers: list[str]
    #: Empty if there is none.
    user: str = field(repr=False)
    #: None if the user is a token.
    password: str | None = field(repr=False)
    stream: str
    #: How many servers must keep a copy.
    replicas: int


def parse_stream(text: str) -> StreamUrl | None:
    """The stream that a URL names; None if it is no URL of NATS.

    Raises:
        SettingInvalid: it is one, and malformed; the error says how to write it.
    """
    text = text.strip()
    if not text.lower().startswith("nats:"):
        return None
    found = _FORM.fullmatch(text)
    if found is None:
        raise invalid(
            "be written nats://user:password@host:4222,other-host:4222/STREAM?replicas=3, with 1, 3 or 5 replicas, and "
            "special characters of user and password percent-encoded"
        )
    named = [server.rpartition("@")[::2] for server in found["servers"].split(",")]
    users = {user for user, _ in named if user}
    if len(users) > 1:
        raise invalid("name the same user and password for every server of NATS, or name them once")
    user, colon, password = users.pop().partition(":") if users else ("", "", "")
    return StreamUrl(
        servers=[f"nats://{address}" for _, address in named],
        user=unquote(user),
        password=unquote(password) if colon else None,
        stream=found["stream"] or DEFAULT_STREAM,
        replicas=int(found["replicas"] or DEFAULT_REPLICAS),
    )
