"""What the role that connects must find and may do, checked before it is needed."""

from __future__ import annotations

from collections.abc import Sequence

from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.contract import Row

#: What to do when a right is missing.
GRANT_RIGHTS = "give the role its rights: `gatecast roles` prints the statements"

#: What to do when the role may not change the schema.
MIGRATE_AS_OWNER = (
    "run `gatecast migrate` as the owner of the schema, or give this role the right to create; `gatecast roles` prints "
    "the statements for both roles"
)


def split_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The schemas, empty where none is named, and the names without them."""
    parts = [name.rpartition(".") for name in names]
    return [schema for schema, _, _ in parts], [name for _, _, name in parts]


def check_role(rows: Sequence[Row]) -> None:
    """Look at where the tables are for this role, each row telling of one, and what it may do there.

    Raises:
        DatabaseUnsuitable: it does not find them, or lacks a right.
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
