"""`gatecast doctor`: check what a pod needs, and say how to fix what is wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, print_json
from gatecast.settings import Settings

if TYPE_CHECKING:
    from gatecast.cli.doctor.findings import Finding


@with_settings(
    "database",
    "outbox",
    "pooler",
    "api_listen",
    "gateway_listen",
    "gateway_tls",
    "gateway_tls_key",
    "max_connections",
    "max_api_connections",
)
def doctor(
    *,
    settings: Settings,
    url: Annotated[str, typer.Option("--url", help="Admin API of a pod; by default the one here.")] = "",
    gateway_url: Annotated[str, typer.Option(help="Gateway listener of a pod; by default the one here.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Check the database, the machine, the certificate and the listeners, and say how to fix each problem.

    The command changes nothing. The exit status is 1 if there is a problem; warnings do not count.
    """
    from gatecast.cli.doctor.database import look_at_database  # noqa: PLC0415 - slow to import
    from gatecast.cli.doctor.findings import State, print_findings  # noqa: PLC0415
    from gatecast.cli.doctor.machine import look_at_listeners, look_at_machine  # noqa: PLC0415
    from gatecast.cli.doctor.stream import look_at_stream  # noqa: PLC0415

    async def look() -> list[Finding]:
        return [
            *await look_at_database(settings),
            *await look_at_stream(settings),
            *look_at_machine(settings),
            *await look_at_listeners(settings, url, gateway_url),
        ]

    findings = asyncio.run(look())
    healthy = not any(each.state is State.PROBLEM for each in findings)
    if as_json:
        print_json({"healthy": healthy, "findings": [each.as_json() for each in findings]})
    else:
        print_findings(findings)
    raise typer.Exit(0 if healthy else 1)
