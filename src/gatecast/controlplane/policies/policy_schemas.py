"""Checks the parameters of a policy against the JSON schema that a gateway has announced for them.

Schemas come from gateways, so they may be wrong, huge, deeply nested or malicious. Only the parts that are cheap to
compare are applied. Leaving a part out makes a schema accept more, never less, so an unusable schema refuses nothing.
No `$ref` is followed, not even inside the schema, and nothing is ever fetched.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from jsonschema import Draft7Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import create

from gatecast.controlplane.policies.text_patterns import text_pattern
from gatecast.errors import shorten
from gatecast.telemetry import get_logger

#: Most values in a schema that is applied; every 64 characters count as one more. The schemas of the gateway image have
#: a few hundred.
MAX_SCHEMA_SIZE = 2_000

#: Deepest nesting of a schema that is applied. The schemas of the gateway image are 10 deep.
MAX_SCHEMA_DEPTH = 40
_CHARACTERS = 64

#: Most comparisons for the parameters of one document: less than half a second in the worst case.
MAX_COMPARISONS = 50_000

#: The cost of matching a pattern, and of reading one value of a schema, in comparisons.
_PATTERN_WEIGHT = 50
_READING_WEIGHT = 10

_logger = get_logger("policy-schemas")

_Schema = Mapping[str, Any] | bool

#: Keywords applied as they are. `format` is not among them, because it means too many things, nor `uniqueItems`,
#: because it costs too much.
_SCALAR_KEYWORDS = frozenset(
    {
        *("type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "required"),
    }
)
#: Keywords that hold schemas by name.
_NAMING_KEYWORDS = frozenset({"properties", "dependencies"})
#: Keywords that hold one schema, several in a list, or several by name. If those accept more, so does the whole.
_NESTING_KEYWORDS = _NAMING_KEYWORDS | {
    *("items", "additionalItems", "contains", "additionalProperties", "propertyNames"),
    *("allOf", "anyOf", "then", "else"),
}
#: Keywords that accept less if the schemas in them accept more, so they apply only if those are complete.
_STRICT_KEYWORDS = frozenset({"not", "oneOf", "if"})
#: Keywords that gateways apply, but that are not applied here as they are.
_LEFT_OUT = frozenset({"$ref", "format", "uniqueItems", "pattern", "patternProperties"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRule:
    """The reason why a gateway would refuse parameters. It never holds a parameter's value, which may be a secret."""

    #: The names and indexes that lead to the parameter at fault.
    path: tuple[str | int, ...]
    #: A phrase that continues "it …".
    rule: str


@dataclass(frozen=True, slots=True)
class PolicySchema:
    """The part of a schema that is applied."""

    _validator: Validator
    _weight: int

    def cost(self, params: object) -> int:
        """The most comparisons that these parameters can take: each part of the schema may meet each value in them."""
        return self._weight * sum(part.size for part in _parts(params))

    def broken_rule(self, params: dict[str, Any]) -> BrokenRule | None:
        """The first rule that these parameters break; None if they break none, or the schema cannot be applied."""
        try:
            error = next(self._validator.iter_errors(params), None)
        except Exception as problem:  # noqa: BLE001 - whatever a schema makes the library do, it is not the operator's fault
            _logger.warning("policy-schema-unusable", error=type(problem).__name__)
            return None
        return None if error is None else _broken(error)


class Comparisons:
    """Checks the parameters of one document against schemas, within one budget of `MAX_COMPARISONS` for all of them."""

    def __init__(self) -> None:
        self._left = MAX_COMPARISONS

    def broken_rule(self, schema: object, params: dict[str, Any]) -> BrokenRule | None:
        """The first rule of a schema that these parameters break.

        None if they break none, the schema cannot be used, or the budget is used up.
        """
        self._left -= _READING_WEIGHT * sum(part.size for part in islice(_parts(schema), MAX_SCHEMA_SIZE))
        found = policy_schema(schema) if self._left >= 0 else None
        if found is None:
            return None
        self._left -= found.cost(params)
        return found.broken_rule(params) if self._left >= 0 else None


def policy_schema(parameters: object) -> PolicySchema | None:
    """The schema in a manifest's `parameters` of a policy; None if it is empty, too large or unusable."""
    if not isinstance(parameters, dict) or not parameters or not _is_small(parameters):
        return None
    return _read(json.dumps(parameters))


# Most gateways have the same policies, so the cache spares reading the same few schemas again and again.
@lru_cache(maxsize=256)
def _read(text: str) -> PolicySchema | None:
    schema = json.loads(text)
    try:
        # Without format checks, which would compile every pattern.
        Draft7Validator.check_schema(schema, format_checker=FormatChecker(()))
    except SchemaError:
        return None
    applied, _ = _loosened(schema)
    if isinstance(applied, bool):
        return None
    weight = sum(_PATTERN_WEIGHT if part.name == "pattern" else part.size for part in _parts(applied))
    return PolicySchema(_ParameterValidator(applied), weight)


def _is_small(schema: object) -> bool:
    size = 0
    for part in _parts(schema):
        size += part.size
        if size > MAX_SCHEMA_SIZE or part.depth > MAX_SCHEMA_DEPTH:
            return False
    return True


class _Part(NamedTuple):
    """One value inside another."""

    #: Empty for an element of a list.
    name: str
    depth: int
    #: As `MAX_SCHEMA_SIZE` counts it.
    size: int


def _parts(value: object, name: str = "", depth: int = 0) -> Iterator[_Part]:
    """A value and every value inside it, down to one level past the limit of depth.

    A generator, so that a caller can stop at a limit without reading the rest.
    """
    text = len(value) if isinstance(value, str) else 0
    yield _Part(name, depth, 1 + (len(name) + text) // _CHARACTERS)
    if depth > MAX_SCHEMA_DEPTH:
        return
    if isinstance(value, Mapping):
        for each, item in value.items():
            yield from _parts(item, str(each), depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _parts(item, "", depth + 1)


# --- the part of a schema that is applied -----------------------------------------------------------------------------


def _loosened(schema: _Schema) -> tuple[_Schema, bool]:
    """The part of a schema that is applied, and whether that is all that gateways apply of it.

    Keywords that gateways ignore, such as `description`, are left out, and so is `$schema`: the library would choose
    other rules for it.
    """
    if isinstance(schema, bool):
        return schema, True
    if "$ref" in schema:
        return True, False
    applied: dict[str, Any] = {name: schema[name] for name in _SCALAR_KEYWORDS & schema.keys()}
    whole = not _LEFT_OUT & schema.keys()
    for name in sorted(_NESTING_KEYWORDS & schema.keys()):
        applied[name], whole_part = _loosened_parts(schema[name], by_name=name in _NAMING_KEYWORDS)
        whole = whole and whole_part
    for name in sorted(_STRICT_KEYWORDS & schema.keys()):
        part, whole_part = _loosened_parts(schema[name])
        whole = whole and whole_part
        if whole_part:
            applied[name] = part
    if "patternProperties" in schema:
        # Without `patternProperties` it is unknown which names are additional.
        applied.pop("additionalProperties", None)
    if text_pattern(schema.get("pattern")) is not None:
        applied["pattern"] = schema["pattern"]
    return applied, whole


def _loosened_parts(value: Any, *, by_name: bool = False) -> tuple[Any, bool]:  # noqa: ANN401 - JSON
    """As `_loosened`, for the value of a keyword: one schema, a list, or several by name.

    `dependencies` may also hold lists of names, which stay as they are.
    """
    if by_name:
        named = {name: _loosened_parts(each) for name, each in value.items()}
        return {name: part for name, (part, _) in named.items()}, all(whole for _, whole in named.values())
    if isinstance(value, list):
        parts = [_loosened_parts(each) for each in value]
        return [part for part, _ in parts], all(whole for _, whole in parts)
    return _loosened(value) if isinstance(value, dict | bool) else (value, True)


def _check_pattern(
    validator: Validator, pattern: str, instance: object, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    del validator, schema
    found = text_pattern(pattern)
    if isinstance(instance, str) and found is not None and found.refuses(instance):
        yield ValidationError("pattern")


_ParameterValidator = create(
    meta_schema={},
    validators={
        name: keyword
        for name, keyword in Draft7Validator.VALIDATORS.items()
        if name in _SCALAR_KEYWORDS | _NESTING_KEYWORDS | _STRICT_KEYWORDS
    }
    | {"pattern": _check_pattern},
    type_checker=Draft7Validator.TYPE_CHECKER,
)


# --- the words of a refusal -------------------------------------------------------------------------------------------


def _broken(error: ValidationError) -> BrokenRule:
    """The broken rule in the schema's words: the library's own message would show the value."""
    path, written, wanted = tuple(error.absolute_path), _any(error.instance), _any(error.validator_value)
    if not isinstance(error.validator, str):
        return BrokenRule(path=path, rule="is not allowed")
    if error.validator == "required":
        return BrokenRule(path=(*path, _first(wanted, written)), rule="is required")
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
        return BrokenRule(path=(*path, _first(written, known)), rule="is not a parameter of this policy")
    return BrokenRule(path=path, rule=f"must keep to {error.validator}: {shorten(wanted)}")


def _any(value: Any) -> Any:  # noqa: ANN401 - an error has everything that it has once the library has raised it
    return value


def _first(names: Iterable[str], others: Container[str]) -> str:
    return next((name for name in names if name not in others), "")
