"""Many rows as one argument of a statement, in a form that every database reads: a JSON object.

`json_each($1)` turns it into a table with the columns `key` and `value`. If a value is an object,
`json_extract_path_text(value, 'name')` is the text of its field `name`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping


def as_keys(values: Iterable[str]) -> str:
    """The values as the keys of a JSON object, each once, in the order of their first occurrence."""
    return json.dumps(dict.fromkeys(values))


def as_rows(rows: Iterable[Mapping[str, object]]) -> str:
    """The rows as the values of a JSON object, in order; values that JSON lacks become their `str`."""
    return json.dumps({str(number): row for number, row in enumerate(rows)}, default=str)
