"""What a scenario measured, as values that tell by themselves whether they are good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from gatecast.cli.output import print_json, print_table, screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One quantity, measured in several rounds."""

    #: What was measured.
    what: str
    #: What it is counted in.
    unit: str
    #: One value for each round, in order.
    rounds: Sequence[float]
    #: At most this, or at least this where more is better; None: it is only shown.
    aim: float | None = None
    #: Whether more is better.
    more_is_better: bool = False
    #: The median of the yardstick's rounds between these; None: it has none.
    yardstick: float | None = None

    @property
    def middle(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """How far the rounds lie apart, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / self.middle if self.middle else 0.0

    @property
    def shortfall(self) -> float:
        """How many times worse than the aim it is; at most 1: it is reached, or there is none."""
        if self.aim is None or not self.middle or not self.aim:
            return 0.0
        return self.aim / self.middle if self.more_is_better else self.middle / self.aim

    @property
    def verdict(self) -> str:
        """`pass`, by how much the aim was missed, that this cannot be told, or nothing where there is no aim."""
        if self.aim is None:
            return ""
        if not self.middle:
            # The part to subtract was larger than the whole.
            return "too little to tell"
        return "pass" if self.shortfall <= 1 else f"short by {self.shortfall:.1f}x"

    def as_json(self) -> dict[str, Any]:
        """The figure for other programs."""
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.middle,
            "spread": self.spread,
            "rounds": list(self.rounds),
            "aim": self.aim,
            "moreIsBetter": self.more_is_better,
            "yardstick": self.yardstick,
            "verdict": self.verdict,
        }


def report(title: str, figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print the figures of one scenario."""
    if as_json:
        print_json({"scenario": title, "figures": [each.as_json() for each in figures]})
        return
    screen.print(f"[bold]{title}[/bold]")
    print_table(
        [
            {
                "what": each.what,
                "median": f"{each.middle:,.1f} {each.unit}",
                "spread": f"±{each.spread * 50:.0f} %",
                "aim": "" if each.aim is None else f"{'≥' if each.more_is_better else '≤'} {each.aim:,g}",
                "yardstick": "" if not each.yardstick else f"{each.middle / each.yardstick:.1f}x",
                "verdict": each.verdict,
            }
            for each in figures
        ],
        {
            "what": "WHAT",
            "median": "MEDIAN",
            "spread": "SPREAD",
            "aim": "AIM",
            "yardstick": "TO YARDSTICK",
            "verdict": "VERDICT",
        },
        empty="nothing was measured",
    )
