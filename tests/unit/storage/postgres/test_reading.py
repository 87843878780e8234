"""The statement that reads many logs, and the function that reads a few: two forms of one text."""

from __future__ import annotations

import re
from importlib.resources import files


def _plain(text: str) -> str:
    return " ".join(re.sub(r"--[^\n]*", "", text).split())


def test_a_few_logs_are_read_as_many_are() -> None:
    """They differ in their arguments alone."""
    folder = files("gatecast.storage.postgres")
    statements = (folder / "queries.sql").read_text()
    function = (folder / "functions" / "reading.sql").read_text()
    [many] = re.findall(r"-- name: read\n(.*?)(?=-- name: |\Z)", statements, re.DOTALL)
    [few] = re.findall(r"RETURN QUERY\s(.*?);\s*END", function, re.DOTALL)
    arguments = "$1::text::text[], $2::text::bigint[], $3::text::integer[], $4::text::bigint[]"
    expected = _plain(many).replace(arguments, "p_gateway_ids, p_after, p_max_events, p_max_bytes")
    assert _plain(few) == expected
