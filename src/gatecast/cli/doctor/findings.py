"""The doctor's findings: one for each check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from rich.markup import escape

from gatecast.cli.output import screen


class State(StrEnum):
    """The result of a check."""

    #: As it should be.
    OK = "ok"
    #: It works, and may surprise you.
    WARNING = "warning"
    #: It does not work, or breaks a promise.
    PROBLEM = "problem"


_STYLES = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "bold red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The finding of one check."""

    #: What was checked, in a word or two.
    check: str
    state: State
    #: What was found.
    message: str
    #: What to do about it; empty when there is nothing to do.
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """For machines."""
        return {name: str(value) for name, value in asdict(self).items()}


def ok(check: str, message: str) -> Finding:
    """It is as it should be."""
    return Finding(check=check, state=State.OK, message=message)


def warning(check: str, message: str, advice: str) -> Finding:
    """It works, and may surprise you."""
    return Finding(check=check, state=State.WARNING, message=message, advice=advice)


def problem(check: str, message: str, advice: str) -> Finding:
    """It does not work, or breaks a promise."""
    return Finding(check=check, state=State.PROBLEM, message=message, advice=advice)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a line for each, and below it what to do."""
    width = max(len(each.check) for each in findings)
    for each in findings:
        style = _STYLES[each.state]
        screen.print(f"[{style}]{each.state:<7}[/{style}]  {each.check:<{width}}  {escape(each.message)}")
        if each.advice:
            screen.print(f"{'':<{width + 11}}→ {escape(each.advice)}")
