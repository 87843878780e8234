"""Removes possible secrets from every text that is printed, logged or sent in an answer."""

from __future__ import annotations

import re

#: Replaces a secret.
HIDDEN = "(hidden)"

#: What may hold a secret wherever it appears, besides credentials in front of an `@`: a password in the forms of
#: libpq, JDBC and HTTP; a key file's content; a bearer token. The sender of a text decides what is in it, so the time
#: that each pattern takes grows with the length of the text, and not faster.
_SECRETS = (
    (re.compile(r"-----BEGIN.*", re.DOTALL), HIDDEN),
    (
        re.compile(r"(?i)\b(pass(?:word|wd|phrase)?|pwd|sslpassword|secret|token)(\s*=\s*)('[^']*'|[^\s&;,]+)"),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
)

#: One of these is in every text in which one of the patterns, or an `@`, can be found, whatever its case.
_SIGNS = ("@", "pass", "pwd", "secret", "token", "bearer", "basic", "-----begin")

#: What stands in front of an `@`, back to a blank or another `@`. It begins only there, so it is looked at only once.
_BEFORE_AT = re.compile(r"(?<![^\s@])[^\s@]+@")

#: Parts a user from a password; not the scheme of a URL from the rest.
_COLON = re.compile(r":(?!//)")


def may_hold_secret(text: str) -> bool:
    """Whether `redacted` might change the text; takes a tenth of its time.

    Always true for letters of other scripts: patterns that ignore case match some of them.
    """
    if not text.isascii():
        return True
    lower = text.lower()
    return any(sign in lower for sign in _SIGNS)


def redacted(text: str) -> str:
    """The text with `(hidden)` in place of what may be a secret."""
    if not may_hold_secret(text):
        return text
    if "@" in text:
        text = "\n".join(map(_without_credentials, text.split("\n")))
        text = _BEFORE_AT.sub(_without_password, text)
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def _without_credentials(line: str) -> str:
    """The line without possible credentials of a URL, even a malformed one."""
    begin, end = line.find("://"), line.rfind("@")
    return f"{line[:begin]}://{HIDDEN}{line[end:]}" if 0 <= begin < end else line


def _without_password(found: re.Match[str]) -> str:
    return f"{HIDDEN}@" if _COLON.search(found[0], 0, len(found[0]) - 2) else found[0]
