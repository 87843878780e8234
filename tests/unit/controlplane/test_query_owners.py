"""Each file of statements belongs to one module: other modules call that module."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import gatecast

_SOURCE = Path(gatecast.__file__).parent


@cache
def _modules() -> dict[str, ast.Module]:
    """Every module of the control plane, by its path."""
    files = sorted((_SOURCE / "controlplane").rglob("*.py"))
    return {file.relative_to(_SOURCE).as_posix(): ast.parse(file.read_text("utf-8")) for file in files}


def _opened(module: ast.Module) -> Iterator[tuple[str, str]]:
    """The files that a module opens: path, and what the module calls the statements of each."""
    for node in module.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(name)],
                value=ast.Call(ast.Name("Queries"), [ast.Constant(str() as package), ast.Constant(str() as file)]),
            ):
                yield f"{package.removeprefix('gatecast.').replace('.', '/')}/{file}", name


def _opened_by_modules() -> dict[str, list[tuple[str, str]]]:
    """By file: who opens it, and under which name."""
    found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, module in _modules().items():
        for file, name in _opened(module):
            found[file].append((path, name))
    return found


def _imported(module: ast.Module) -> set[tuple[str, str]]:
    """What a module imports from others: module and name."""
    imports = [node for node in ast.walk(module) if isinstance(node, ast.ImportFrom)]
    return {(node.module or "", alias.name) for node in imports for alias in node.names}


def test_every_file_of_statements_is_opened_by_one_module() -> None:
    files = {file.relative_to(_SOURCE).as_posix() for file in (_SOURCE / "controlplane").rglob("*.sql")}
    opened = _opened_by_modules()
    assert {file for file in files if "/migrations/" not in file} == set(opened)
    assert [file for file, modules in opened.items() if len(modules) != 1] == []


def test_no_module_runs_the_statements_of_another() -> None:
    owned = {
        (f"gatecast.{owner.removesuffix('.py').replace('/', '.')}", name): file
        for file, [(owner, name)] in _opened_by_modules().items()
    }
    shared = {
        (path, owned[imported]) for path, module in _modules().items() for imported in _imported(module) & owned.keys()
    }
    assert shared == set(), "call the module that owns the file"
