"""Checks that the role that connects finds the tables and has the rights it needs."""

from __future__ import annotations

from collections.abc import Sequence

from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.contract import Row

#: The remedy for a missing right.
GRANT_RIGHTS = "give the role its rights: `gatecast roles` prints the statements"

#: The remedy if the role may not change the schema.
MIGRATE_AS_OWNER = (
    "run `gatecast migrate` as the owner of the schema, or give this role the right to create; `gatecast roles` prints "
    "the statements for both roles"
)


def split_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The schema of each table name, empty where none is written, and the names without schemas."""
    parts = [name.rpartition(".") for name in names]
    return [schema for schema, _, _ in parts], [name for _, _, name in parts]


def check_role(rows: Sequence[Row]) -> None:
    """Return if the role finds the tables and has the rights on them; each row of statement `role` describes one table.

    Raises:
        DatabaseUnsuitable: the role does not find a table, or lacks a right.
    """
    if not rows:
        return
    role = rows[0]["role"]
    found = [row for row in rows if row["found_in"] is not None]
    visible = {row["name"] for row in found if row["visible"] and row["usable"]}
    if unusable := [row for row in found if row["name"] not in visible and not row["usable"]]:
        raise DatabaseUnsuitable(f"role {role} lacks USAGE on schema {unusable[0]['found_in']}", GRANT_RIGHTS)
    if any(row["schema"] == "" for row in rows) and rows[0]["creates_in"] is None:
        raise DatabaseUnsuitable(
            f"the search_path of role {role} names no schema that exists and that it may use",
            f"set one, like: ALTER ROLE {role} SET search_path = public",
        )
    hidden = [row for row in found if row["name"] not in visible]
    if hidden:
        raise DatabaseUnsuitable(
            f"the tables are in schema {hidden[0]['found_in']}, which the search_path of role {role} does not name",
            f"set it: ALTER ROLE {role} SET search_path = {hidden[0]['found_in']}",
        )
    _check_rights(role, [row for row in found if row["visible"]])


def _check_rights(role: str, rows: Sequence[Row]) -> None:
    lacking = [f"{', '.join(row['lacking'])} on {row['found_in']}.{row['name']}" for row in rows if row["lacking"]]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise DatabaseUnsuitable(f"role {role} lacks {lacking[0]}{more}", GRANT_RIGHTS)
