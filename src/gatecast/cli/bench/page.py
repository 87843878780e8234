"""What `gatecast bench all` measured, as one page without anything from elsewhere: charts, and their figures."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from os import cpu_count, getloadavg
from typing import Any

from gatecast.version import __version__

#: The number that a chart shows of scenarios that print figures of their own, and what it is counted in.
_SHOWN = {
    "events_per_second": "events/s",
    "p50_ms": "ms (p50)",
    "kib_per_connection": "KiB per connection",
}

#: Numbers that say which load a figure belongs to, and are no result.
_LOADS = ("design", "mode", "gateways", "publishers", "tls", "connections")

_BAR, _LABEL, _ROW = 420, 330, 22

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2330 }
h2 { margin-top: 2.5rem }
table { border-collapse: collapse; font-size: 13px }
td, th { padding: .2rem .7rem; text-align: left }
th { border-bottom: 1px solid #9aa4b2 }
svg text { font: 12px system-ui, sans-serif; fill: #1c2330 }
.bar { fill: #3f6fb5 }
.missed { fill: #c8702a }
.aim { stroke: #1c2330; stroke-dasharray: 3 2 }
.note { color: #5a6472 }
"""


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page for these results, by scenario."""
    load = " ".join(f"{each:.1f}" for each in getloadavg())
    machine = f"{cpu_count()} processors, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    body = "".join(_section(name, result) for name, result in results.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>gatecast bench</title><style>{_STYLE}</style>'
        f"<h1>gatecast bench</h1><p class=note>Gatecast {escape(__version__)} · {made} · {escape(machine)}"
        f" · load {load}. Medians; a dashed line is the aim, an orange bar misses it.</p>{body}</html>"
    )


def _section(name: str, result: Mapping[str, Any]) -> str:
    figures = result["figures"]
    heading = f"<h2>{escape(name)}</h2>"
    if not figures:
        return f"{heading}<p class=note>{escape(result['status'])}</p>"
    return f"{heading}{''.join(map(_chart, _charts(figures)))}{_table(figures)}"


def _charts(figures: Sequence[Mapping[str, Any]]) -> list[list[tuple[str, float, str, float | None, bool]]]:
    """Bars that share a unit share a chart. A bar: label, value, unit, aim, and whether it misses it."""
    charts: dict[str, list[tuple[str, float, str, float | None, bool]]] = {}
    for each in figures:
        if "what" in each:
            missed = each["verdict"] not in ("", "pass")
            bar = (each["what"], each["median"], each["unit"], each["aim"], missed)
        else:
            key = next(name for name in _SHOWN if name in each)
            bar = (_load(each), each[key], _SHOWN[key], None, False)
        charts.setdefault(bar[2], []).append(bar)
    return list(charts.values())


def _load(figure: Mapping[str, Any]) -> str:
    return ", ".join(_word(name, figure[name]) for name in _LOADS if name in figure)


def _word(name: str, value: object) -> str:
    if name == "tls":
        return "TLS" if value else "plain"
    return str(value) if isinstance(value, str) else f"{value:,} {name}"


def _chart(bars: Sequence[tuple[str, float, str, float | None, bool]]) -> str:
    longest = max(max(value, aim or 0.0) for _, value, _, aim, _ in bars) or 1.0
    height = _ROW * len(bars) + 6
    rows = "".join(_bar(number, bar, _BAR / longest) for number, bar in enumerate(bars))
    return f'<svg width="100%" viewBox="0 0 {_LABEL + _BAR + 130} {height}" role="img">{rows}</svg>'


def _bar(number: int, bar: tuple[str, float, str, float | None, bool], scale: float) -> str:
    label, value, unit, aim, missed = bar
    top, length = number * _ROW + 4, max(value * scale, 1.0)
    mark = "" if aim is None else _mark(_LABEL + aim * scale, top)
    return (
        f'<text x="0" y="{top + 13}">{escape(label)}</text>'
        f'<rect class="{"missed" if missed else "bar"}" x="{_LABEL}" y="{top}" width="{length:.1f}" height="16"/>{mark}'
        f'<text x="{_LABEL + length + 6:.1f}" y="{top + 13}">{value:,.4g} {escape(unit)}</text>'
    )


def _mark(place: float, top: int) -> str:
    return f'<line class="aim" x1="{place:.1f}" x2="{place:.1f}" y1="{top - 3}" y2="{top + 19}"/>'


def _table(figures: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in figures[0] if not isinstance(figures[0][name], list)]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(each.get(name))}</td>" for name in names) + "</tr>" for each in figures
    )
    return f"<details><summary>figures</summary><table><tr>{head}</tr>{rows}</table></details>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return "" if value is None else escape(str(value))
