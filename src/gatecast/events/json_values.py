"""JSON of tenants: checked before it is stored, and read leniently if it was stored before a rule existed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from gatecast.errors import InvalidValue, shorten
from gatecast.events.grammar import MAX_DEPTH, MAX_INTEGER, MAX_STORED_DEPTH, is_storable

#: Keys and indices that lead to a value.
_Path: TypeAlias = tuple[str | int, ...]


class TooDeep(InvalidValue):
    """A text is nested too deep to be read at all."""


# --- what comes in as values ------------------------------------------------------------------------------------------


def encode(field: str, value: object) -> str:
    """A JSON object as compact text.

    Raises:
        InvalidValue: it is not an object, or holds something that could not be read back.
    """
    # A dictionary first: asking whether something is a mapping takes as long as encoding a small one.
    if not isinstance(value, dict) and not isinstance(value, Mapping):
        raise InvalidValue(field, type(value).__name__, "be a JSON object")
    plain = dict(value)
    try:
        text = _encoded(plain)
        suspicious = _is_suspicious(plain, text)
    except (TypeError, ValueError, RecursionError) as problem:
        check(field, plain)
        raise InvalidValue(field, type(problem).__name__, "be expressible as JSON") from None
    if suspicious:
        check(field, plain)
    return text


def encode_foreign(field: str, value: Mapping[str, Any]) -> str:
    """A gateway's description of itself, as compact text; it may hold anything that can be read back.

    Raises:
        InvalidValue: it cannot be read back.
    """
    try:
        text = _encoded(value)
        text.encode()
    except (ValueError, TypeError, RecursionError):
        rule = "be JSON without lone surrogates, with numbers that a double can carry"
        raise InvalidValue(field, "JSON", rule) from None
    read_stored(field, text)
    return text


_encoded = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def _is_suspicious(value: object, text: str) -> bool:
    """Whether `check` must look at every part, which takes ten times as long as encoding; false alarms are harmless."""
    if not text.isascii():
        text.encode()
    return "\\u0000" in text or bool(_LONG_NUMBER.search(text)) or _is_odd(value)


def _is_odd(value: object) -> bool:
    """Whether it is nested too deep, or has keys that are not strings."""
    level = [value]
    for _ in range(MAX_DEPTH):
        if not all(_has_texts_as_keys(each) for each in level):
            return True
        level = [child for each in level for child in _children(each) if isinstance(child, _CONTAINERS)]
        if not level:
            return False
    return True


def _has_texts_as_keys(container: object) -> bool:
    return not isinstance(container, dict) or set(map(type, container)) <= {str}


_CONTAINERS = (dict, list, tuple)

#: As many digits as the largest integer has.
_LONG_NUMBER = re.compile("[0-9]{19}")


def check(field: str, value: object) -> None:
    """Refuse a value that a reader could not read back; the error names the place in it, not the value.

    Raises:
        InvalidValue: it is not JSON, nested deeper than 32, or holds NUL, a lone surrogate, an integer of more than 64
            bits, or a number that is not finite.
    """
    waiting: list[tuple[_Path, object]] = [((), value)]
    while waiting:
        path, part = waiting.pop()
        if (rule := _broken_rule(part)) is None and len(path) > MAX_DEPTH:
            rule = f"be nested at most {MAX_DEPTH} deep"
        if rule is not None:
            place = f", also at {shorten('.'.join(map(str, path)))}" if path else ""
            raise InvalidValue(field, type(part).__name__, f"{rule}{place}")
        if isinstance(part, dict):
            waiting.extend(((*path, key), child) for key, child in part.items())
        elif isinstance(part, list | tuple):
            waiting.extend(((*path, index), child) for index, child in enumerate(part))


def _broken_rule(part: object) -> str | None:
    """The rule that a value itself breaks, apart from the values inside it."""
    match part:
        case str() if not is_storable(part):
            return "hold no NUL and no lone surrogate"
        case int() if not -MAX_INTEGER - 1 <= part <= MAX_INTEGER:
            return "hold integers of at most 64 bits"
        case float() if not math.isfinite(part):
            return "hold only numbers that a double can carry"
        case dict():
            return _broken_rule_of_keys(part)
        case None | str() | int() | float() | list() | tuple():
            return None
    return f"be expressible as JSON, which {type(part).__name__} is not"


def _broken_rule_of_keys(part: Mapping[object, object]) -> str | None:
    for key in part:
        if not isinstance(key, str):
            return "have only strings as keys"
        if not is_storable(key):
            return "have keys without NUL and lone surrogates"
    return None


def is_same(one: object, other: object) -> bool:
    """Whether two values are the same JSON: 1 and 1.0 are, 1 and true are not, whatever Python says."""
    return one == other and (json.dumps(one) == json.dumps(other) or _is_alike(one, other))


def _is_alike(one: object, other: object) -> bool:
    """Whether two equal values hold truth values at the same places; the keys of objects have any order."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_is_alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return all(map(_is_alike, one, other))
    return isinstance(one, bool) == isinstance(other, bool)


# --- JSON that comes in as text ---------------------------------------------------------------------------------------


def decode(field: str, text: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """The value that a JSON text holds, which `check` may still refuse.

    NaN, and a number too large or too close to zero for a double, become values that are not finite: `check` refuses
    them at their place.

    Raises:
        InvalidValue: it is not JSON, an object in it names a key twice, so that two readers could read two values, or
        it is nested too deep to be read at all.
    """
    return _decoded(field, text, _DECODER, MAX_DEPTH)


def _decoded(field: str, text: str | bytes, decoder: json.JSONDecoder, depth: int) -> Any:  # noqa: ANN401 - JSON
    try:
        return decoder.decode(text if isinstance(text, str) else text.decode())
    except InvalidValue as error:
        raise InvalidValue(field, error.value, error.rule) from None
    except RecursionError:
        raise TooDeep(field, "JSON", f"be nested at most {depth} deep") from None
    except UnicodeDecodeError:
        raise InvalidValue(field, "bytes", "be JSON in UTF-8") from None
    except json.JSONDecodeError as problem:
        raise InvalidValue(field, f"position {problem.pos}", f"be JSON ({problem.msg})") from None


def decode_foreign(field: str, text: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """Like `decode`, for the text of a gateway; the last value of a repeated key counts.

    Raises:
        InvalidValue: it is not JSON, or nested too deep to be read.
    """
    return _decoded(field, text, _FOREIGN_DECODER, MAX_STORED_DEPTH)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidValue("", repeated, "name each key of an object once")
    return unique


def _integer(text: str) -> int | float:
    """The interpreter refuses to read integers of thousands of digits."""
    return int(text) if len(text) <= _LONGEST_INTEGER else math.inf


def _double(text: str) -> float:
    value = float(text)
    vanished = value == 0 and re.search("[1-9]", re.split("[eE]", text)[0])
    return math.inf if vanished else value


#: More digits than any integer of 64 bits has.
_LONGEST_INTEGER = 40

_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_double, parse_constant=float)

_FOREIGN_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_double, parse_constant=float)


# --- what is stored already -------------------------------------------------------------------------------------------


def read_stored(field: str, text: str) -> dict[str, Any]:
    """The JSON object in a stored text, whatever rules it was stored under.

    Raises:
        InvalidValue: it cannot be read or passed on: it is not a JSON object, nested deeper than 200, or holds a lone
            surrogate or a number beyond every limit.
    """
    try:
        value = _STORED_DECODER.decode(text)
        if text.count("[") + text.count("{") > MAX_STORED_DEPTH and _is_nested_deeper(value, MAX_STORED_DEPTH):
            raise RecursionError  # noqa: TRY301 - one reply for everything that is too deep
        if "\\u" in text and "\\ud" in text.lower():
            _encoded(value).encode()
    except RecursionError:
        raise InvalidValue(field, "JSON", f"be nested at most {MAX_STORED_DEPTH} deep to be read") from None
    except UnicodeEncodeError:
        raise InvalidValue(field, "JSON", "hold no lone surrogate to be read") from None
    except InvalidValue:
        raise
    except ValueError:
        raise InvalidValue(field, "JSON", "be JSON with shorter numbers to be read") from None
    if not isinstance(value, dict):
        raise InvalidValue(field, type(value).__name__, "be a JSON object")
    return value


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise InvalidValue("data", text, "hold only numbers that a double can carry to be read")
    return value


_STORED_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def _is_nested_deeper(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [child for each in level for child in _children(each) if isinstance(child, _CONTAINERS)]
    return bool(level)


def _children(container: object) -> Iterable[Any]:
    if isinstance(container, dict):
        return container.values()
    return container if isinstance(container, list | tuple) else ()
