"""The report of findings: a table for the terminal, and a page with a timeline."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gatecast.cli.output import print_table, screen
from gatecast.cli.verify.findings import Finding


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a line for each promise, and the verdict."""
    rows = [
        {
            "held": "held" if finding.held else "BROKEN",
            "promise": finding.promise,
            "seconds": f"{finding.seconds:.1f} s",
            "detail": finding.detail,
        }
        for finding in findings
    ]
    print_table(
        rows, {"held": "", "promise": "PROMISE", "seconds": "TIME", "detail": "DETAIL"}, empty="nothing to check"
    )
    broken = sum(not finding.held for finding in findings)
    if broken:
        screen.print(f"\n[bold red]{broken} of {len(findings)} promises were broken.[/bold red]")
    else:
        screen.print(f"\n[green]All {len(findings)} promises held.[/green]")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Gatecast: verification</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; --line: #8884; --held: #1a7f37; --broken: #cf222e; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .5rem; border-bottom: 1px solid var(--line); }}
.held {{ color: var(--held); }} .broken {{ color: var(--broken); font-weight: bold; }}
.time {{ position: relative; height: 1rem; min-width: 12rem; background: var(--line); }}
.time span {{ position: absolute; height: 100%; background: currentColor; min-width: 2px; }}
</style></head><body>
<h1>{verdict}</h1>
<table><thead><tr><th>Result</th><th>Promise</th><th>When</th><th>Detail</th></tr></thead>
<tbody>
{rows}
</tbody></table></body></html>
"""


def as_html(findings: Sequence[Finding]) -> str:
    """A complete page, with a timeline of the checks."""
    end = max((finding.began + finding.seconds for finding in findings), default=1.0)
    held = all(finding.held for finding in findings)
    return _PAGE.format(
        verdict="Every promise held" if held else "A promise was broken",
        rows="\n".join(_row(finding, end) for finding in findings),
    )


def _row(finding: Finding, end: float) -> str:
    kind = "held" if finding.held else "broken"
    left, width = 100 * finding.began / end, 100 * finding.seconds / end
    return (
        f'<tr><td class="{kind}">{kind}</td><td>{escape(finding.promise)}</td>'
        f'<td class="{kind}"><div class="time" title="began after {finding.began:.1f} s">'
        f'<span style="left:{left:.2f}%;width:{width:.2f}%"></span></div>{finding.seconds:.1f} s</td>'
        f"<td>{escape(finding.detail)}</td></tr>"
    )
