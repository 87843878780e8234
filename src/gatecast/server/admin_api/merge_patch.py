"""JSON merge patches (RFC 7396): what they do, and how the documentation describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_NULL = {"type": "null"}


def merged(stored: object, patch: object) -> object:
    """The stored value with a patch applied: null removes, objects are merged."""
    if not isinstance(patch, dict):
        return patch
    result: dict[str, object] = dict(stored) if isinstance(stored, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def patch_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a patch: the fields of the model, at every depth, none of which is required.

    Arrays are replaced as a whole, so their elements are described as in the model.
    """
    schema = model.model_json_schema()
    return _patch(schema, schema.get("$defs", {}))


def _patch(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return _patch(_target(schema, definitions), definitions)
    kept = {name: value for name, value in schema.items() if name not in ("$defs", "default", "required", "title")}
    if "anyOf" in schema:
        return {**kept, "anyOf": [_patch(each, definitions) for each in schema["anyOf"]]}
    if "properties" not in schema:
        return {name: _inlined(value, definitions) for name, value in kept.items()}
    fields = {name: _removable(_patch(value, definitions)) for name, value in schema["properties"].items()}
    return {**kept, "properties": fields}


def _removable(schema: dict[str, Any]) -> dict[str, Any]:
    return schema if "readOnly" in schema or _NULL in schema.get("anyOf", ()) else {"anyOf": [schema, _NULL]}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """The same without references, which lead nowhere inside another document."""
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(_target(schema, definitions), definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items()}


def _target(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    target: Mapping[str, Any] = definitions[schema["$ref"].rpartition("/")[2]]
    return target
