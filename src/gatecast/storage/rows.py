"""Many rows as one argument of a statement, in a form that every database reads: a JSON object.

`json_each($1)` makes a table of it, with the columns `key` and `value`. Of a value that is an object,
`json_extract_path_text(value, 'name')` is the text of a field.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping


def as_keys(values: Iterable[str]) -> str:
    """The values, each once, as the keys of an object."""
    return json.dumps(dict.fromkeys(values))


def as_rows(rows: Iterable[Mapping[str, object]]) -> str:
    """The rows, in order, as the values of an object."""
    return json.dumps({str(number): row for number, row in enumerate(rows)}, default=str)
