"""Every transaction is done again, as a whole, when the database gave it up for the sake of another one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

#: What takes part in the transactions of others, or is a transaction itself.
_BEGINNINGS = frozenset({"transaction", "begin_unit_of_work", "_begin_change"})

#: Where transactions are made, and where those of callers are joined.
_MECHANISM = frozenset(
    {
        "begin_unit_of_work",
        "controlplane/access/gateways.py:_begin_change",
        "storage/postgres/database.py:_begun",
        "storage/postgres/database.py:_migrate",
        "storage/postgres/caller_transaction.py:joined",
        "storage/postgres/caller_transaction.py:once",
    }
)


def _functions(tree: ast.AST) -> Iterator[ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef))


def _begins(function: ast.AsyncFunctionDef) -> bool:
    """Whether it opens a transaction of its own."""
    contexts = [
        item.context_expr for node in ast.walk(function) if isinstance(node, ast.AsyncWith) for item in node.items
    ]
    called = [context.func for context in contexts if isinstance(context, ast.Call)]
    names = {each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in called}
    return bool(names & _BEGINNINGS)


def _is_whole(function: ast.AsyncFunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "whole" for each in function.decorator_list)


def _beginning() -> dict[str, bool]:
    """Every function of the storage and the control plane that begins a transaction, and whether that is repeated."""
    root = Path(str(resources.files("gatecast")))
    found: dict[str, bool] = {}
    for file in sorted([*root.glob("controlplane/**/*.py"), *root.glob("storage/**/*.py")]):
        for function in _functions(ast.parse(file.read_text())):
            place = f"{file.relative_to(root)}:{function.name}"
            if _begins(function) and not {place, function.name} & _MECHANISM:
                found[place] = _is_whole(function)
    return found


def test_every_transaction_is_begun_by_what_repeats_it() -> None:
    """What is one statement goes through `Database.fetch` and `Database.execute`, which repeat it; see `whole`."""
    beginning = _beginning()
    assert len(beginning) > 20
    assert [place for place, repeated in beginning.items() if not repeated] == []


def test_a_transaction_that_nobody_repeats_is_found() -> None:
    [function] = _functions(
        ast.parse("async def f(self):\n    async with self._database.transaction() as t:\n        pass")
    )
    assert _begins(function)
    assert not _is_whole(function)
