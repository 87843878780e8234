"""Types of single fields, with the rules of gateways (gateway-protocol.md, section 4)."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, JsonValue, StringConstraints, ValidationInfo, WithJsonSchema

from gatecast.controlplane.documents.handles import is_handle
from gatecast.controlplane.documents.refusals import is_stored, refused

#: Longest `displayName` of LLM kinds, in bytes.
MAX_DISPLAY_NAME_BYTES = 253

_CREDENTIAL_FREE_URL = re.compile(
    r"https?://(?:[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<rest>(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    r"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?)"
)
_MAX_PORT = 65_535
_MAX_URL = 2_048
_URL_SCHEMA = {
    "type": "string",
    "maxLength": _MAX_URL,
    "pattern": f"^{re.sub(r'[?]P<[a-z]+>', '?:', _CREDENTIAL_FREE_URL.pattern)}$",
}


def _short_in_bytes(name: str) -> str:
    if len(name.encode()) > MAX_DISPLAY_NAME_BYTES:
        raise refused(f"have at most {MAX_DISPLAY_NAME_BYTES} bytes")
    return name


def _url(url: str) -> str:
    found = _CREDENTIAL_FREE_URL.fullmatch(url)
    if found is None or not 0 < int(found["port"] or 1) <= _MAX_PORT:
        raise refused("be http:// or https:// with a host, without user, fragment or blanks")
    return url


def _origin(url: str) -> str:
    found = _CREDENTIAL_FREE_URL.fullmatch(_url(url))
    if found is None or found["rest"]:
        raise refused("be scheme://host[:port] only; the path belongs into basePath")
    return url


_NANOSECONDS = MappingProxyType({"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9})
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")

#: Gateways count nanoseconds in a signed integer of 64 bits: nearly 2,562,048 hours.
_MAX_NANOSECONDS = 2**63 - 1


def _countable(duration: str, info: ValidationInfo) -> str:
    found = _DURATION.fullmatch(duration)
    if found is None or is_stored(info):
        return duration
    nanoseconds = Fraction(found[1]) * _NANOSECONDS[found[2]]
    if nanoseconds and not 1 <= nanoseconds <= _MAX_NANOSECONDS:
        raise refused("be 0, or from 1 ns up to 2562047h, which is what gateways can count")
    return duration


def _above_zero(duration: str) -> str:
    if not re.search("[1-9]", duration):
        raise refused("be longer than zero")
    return duration


def _balanced(path: str) -> str:
    if re.search(r"[{}]", re.sub(r"\{[^{}]+\}", "", path)):
        raise refused("have a closing brace for each opening one, with a name between them")
    return path


def is_id(text: str) -> bool:
    """Whether a text has the form of our ids. Such a text is always taken for an id, never for a name."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _id_or_handle(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        if is_handle(text):
            return text
        raise refused("be the id (a UUID) or the handle of an LLM provider") from None


def _methods(methods: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(methods)) != len(methods) or ("*" in methods and len(methods) > 1):
        raise refused('name each method once, or "*" alone')
    return methods


def _without_huge_numbers(text: str, info: ValidationInfo) -> str:
    def check(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise refused("hold only numbers that a double can carry")
        return value

    if not is_stored(info):
        # Gateways do not look into it at once, so it need not be JSON.
        with suppress(json.JSONDecodeError, RecursionError):
            json.loads(text, parse_int=check, parse_float=check, parse_constant=check)
    return text


def _sorted_keys(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {key: _sorted_keys(value[key]) for key in sorted(value)}
    return [_sorted_keys(item) for item in value] if isinstance(value, list) else value


#: Name that people see; becomes `displayName`.
LlmName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=2, max_length=120, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$"),
    AfterValidator(_short_in_bytes),
]
ApiName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=2, max_length=100, pattern=r"^[a-zA-Z0-9\-_. ]+$")
]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=512)]
LlmVersion = Annotated[str, StringConstraints(max_length=32, pattern=r"^v[0-9]+\.[0-9]+$")]
ApiVersion = Annotated[str, StringConstraints(max_length=32, pattern=r"^v?[0-9]+(\.[0-9]+)?(\.[0-9]+)?$")]
MajorVersion = Annotated[str, StringConstraints(max_length=16, pattern=r"^v[0-9]+$")]

#: One host, or a pattern of hosts.
Vhost = Annotated[str, StringConstraints(max_length=253, pattern=r"^[A-Za-z0-9*_.:-]+$")]
#: Several hosts, separated by `;`.
Vhosts = Annotated[str, StringConstraints(max_length=2_048, pattern=r"^[A-Za-z0-9*_.:-]+(;[A-Za-z0-9*_.:-]+)*$")]

Url = Annotated[
    str, StringConstraints(max_length=_MAX_URL), AfterValidator(_url), WithJsonSchema(_URL_SCHEMA | {"format": "uri"})
]
Origin = Annotated[str, StringConstraints(max_length=_MAX_URL), AfterValidator(_origin), WithJsonSchema(_URL_SCHEMA)]
BasePath = Annotated[str, StringConstraints(max_length=1_024, pattern=r"^/[^\s?#]*[^\s?#/]$")]

#: `0s` switches off what it limits.
Duration = Annotated[
    str,
    StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"),
    AfterValidator(_countable),
]
PositiveDuration = Annotated[Duration, AfterValidator(_above_zero)]
#: `30s`, `1m`, `24h`.
WholeDuration = Annotated[
    str, StringConstraints(max_length=16, pattern=r"^[1-9][0-9]*(ms|s|m|h)$"), AfterValidator(_countable)
]

#: Name of something inside the document: an upstream definition, the alias of a provider.
LocalName = Annotated[str, StringConstraints(max_length=100, pattern=r"^[a-zA-Z0-9\-_]+$")]
PolicyName = Annotated[str, StringConstraints(max_length=128, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$")]
HeaderName = Annotated[str, StringConstraints(max_length=256, pattern=r"^[a-zA-Z0-9\-_]+$")]

#: A path of requests; may end in `/*`.
Path = Annotated[str, StringConstraints(max_length=1_024, pattern=r"^/[^\s?#]*$"), AfterValidator(_balanced)]

Method: TypeAlias = Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
Methods = Annotated[
    tuple[Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "*"], ...], AfterValidator(_methods)
]

#: An expression over a request.
Condition = Annotated[str, StringConstraints(min_length=1, max_length=4_096)]

#: JSON as text, the schema of something.
JsonText = Annotated[str, AfterValidator(_without_huge_numbers)]

Text = Annotated[str, StringConstraints(min_length=1)]
ProviderId = Annotated[str, AfterValidator(_id_or_handle)]

#: Free JSON; its keys are sorted, so that the same content has one form.
JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_sorted_keys)]
LabelName = Annotated[str, StringConstraints(min_length=1, pattern=r"^\S+$")]
Labels = Annotated[dict[LabelName, str], AfterValidator(_sorted_keys)]
Annotations = Annotated[dict[Text, str], AfterValidator(_sorted_keys)]
