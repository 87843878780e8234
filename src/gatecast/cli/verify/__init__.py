"""`gatecast verify`: check the promises on a running installation, or on one that it starts itself."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from gatecast.cli.ending import run_to_its_end
from gatecast.cli.output import JsonFlag, print_json, screen
from gatecast.cli.remote import DEFAULT_URL, TokenOption
from gatecast.cli.verify.checks import Installation, verify_installation
from gatecast.cli.verify.findings import Finding
from gatecast.cli.verify.local import local_installation
from gatecast.cli.verify.report import as_html, print_findings


def verify(
    *,
    local: Annotated[
        bool,
        typer.Option(
            "--local",
            help="Start three pods here; kill one, stop another in order, and break their database for a while.",
        ),
    ] = False,
    database: Annotated[
        str,
        typer.Option(help="With --local: sqlite, postgresql+embedded, nats+embedded, or the URL of an empty database."),
    ] = "sqlite",
    url: Annotated[
        list[str], typer.Option("--url", envvar="GATECAST_URL", help="Admin API of a pod; repeat it for several pods.")
    ] = [DEFAULT_URL],  # noqa: B006 - typer copies it
    gateways: Annotated[
        list[str], typer.Option("--gateway-url", help="Gateway listener of a pod, in the same order as --url.")
    ] = ["https://127.0.0.1:9243"],  # noqa: B006 - typer copies it
    token: TokenOption = "",
    count: Annotated[int, typer.Option("--gateways", min=1, max=200, help="Temporary gateways.")] = 10,
    events: Annotated[int, typer.Option(min=10, max=2_000, help="Events for each gateway.")] = 60,
    html: Annotated[Path | None, typer.Option(help="Also write the report, with its timeline, to this file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Publish through every pod, move gateways between pods, disconnect them, and check that each promise held.

    Asks first whether everything can be reached. Registers temporary gateways, and deletes them again, also after
    SIGTERM or Ctrl-C. The exit status is 1 if a promise was broken.
    """

    async def run() -> list[Finding]:
        async with AsyncExitStack() as stack:
            if local:
                installation = await stack.enter_async_context(local_installation(database))
            else:
                installation = Installation(apis=url, gateways=gateways, token=token)
            return await verify_installation(installation, gateways=count, events=events)

    findings = run_to_its_end(run())
    broken = [finding for finding in findings if not finding.held]
    if as_json:
        print_json({"held": not broken, "findings": [finding.as_json() for finding in findings]})
    else:
        print_findings(findings)
    if html is not None:
        html.write_text(as_html(findings), "utf-8")
        screen.print(f"report: {html}")
    raise typer.Exit(1 if broken else 0)
