"""Prints the oldest version of everything that pyproject.toml says we work with, as constraints for pip."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_BOUND = re.compile(r"([A-Za-z0-9-]+)(?:\[[a-z,]+\])?>=([0-9.]+)")


def lowest(project: dict[str, object]) -> list[str]:
    """`name==version` of each dependency and of those of every extra."""
    declared = [project["dependencies"], *project["optional-dependencies"].values()]  # type: ignore[attr-defined]
    found = (_BOUND.match(each) for group in declared for each in group)  # type: ignore[attr-defined]
    return sorted({f"{bound[1]}=={bound[2]}" for bound in found if bound is not None})


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    sys.stdout.write("\n".join(lowest(tomllib.loads(text)["project"])) + "\n")
