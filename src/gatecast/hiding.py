"""Keeps what may be a secret out of every text that is printed, logged or answered."""

from __future__ import annotations

import re

#: Stands where a secret was.
HIDDEN = "(hidden)"

#: What may hold a secret wherever it appears: the credentials of a URL, however badly it is written; a password in the
#: forms of libpq, JDBC and HTTP; a key file's content; a bearer token.
_SECRETS = (
    (re.compile(r"://[^\n]*@"), f"://{HIDDEN}@"),
    (re.compile(r"[\w.%+-]*:(?!//)[^\s@]+@"), f"{HIDDEN}@"),
    (re.compile(r"-----BEGIN.*", re.DOTALL), HIDDEN),
    (
        re.compile(r"(?i)\b(pass(?:word|wd|phrase)?|pwd|sslpassword|secret|token)(\s*=\s*)('[^']*'|[^\s&;,]+)"),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
)


def redacted(text: str) -> str:
    """The text with `(hidden)` in place of what may be a secret."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text
