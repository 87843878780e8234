"""The server's address, and the certificates to trust there."""

from __future__ import annotations

import ssl as tls
from pathlib import Path
from typing import TypeAlias

from yarl import URL

from gatecast.errors import InvalidValue
from gatecast.hiding import HIDDEN

#: Which certificates are accepted. `True`: those of the system's authorities; a path: those of the authorities in that
#: PEM file; an `SSLContext`: as it says; `False`: any, which encrypts but does not protect from an impostor.
Trust: TypeAlias = tls.SSLContext | Path | str | bool

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def server_url(text: str) -> URL:
    """The base URL of a server, without a trailing slash.

    Raises:
        InvalidValue: it is not an absolute http, https, ws or wss URL.
    """
    try:
        url = URL(text.strip().rstrip("/"))
    except ValueError:
        raise InvalidValue("url", HIDDEN, "be a URL") from None
    scheme = _SCHEMES.get(url.scheme)
    if scheme is None or not url.host:
        raise InvalidValue("url", HIDDEN, 'be written like "https://host:port"')
    if url.query_string or url.fragment:
        raise InvalidValue("url", HIDDEN, "have neither a query nor a fragment")
    return url.with_scheme(scheme)


def trust(ssl: Trust) -> tls.SSLContext | bool:
    """The `ssl` argument for aiohttp.

    Raises:
        InvalidValue: the file holds no certificates.
    """
    if isinstance(ssl, bool | tls.SSLContext):
        return ssl
    try:
        return tls.create_default_context(cafile=ssl)
    except OSError as problem:
        raise InvalidValue(
            "ssl", HIDDEN, f"be a PEM file of certificate authorities ({problem.strerror or type(problem).__name__})"
        ) from problem
