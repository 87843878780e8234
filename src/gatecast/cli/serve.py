"""`gatecast serve`: run one pod."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable

import typer

from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, print_json, screen
from gatecast.server.pod import Pod
from gatecast.server.pod import serve as run_pod
from gatecast.settings import Settings
from gatecast.telemetry import configure_logs

#: The garbage collector runs once per this many new objects; its default, 700, is reached several times in a connect.
_COLLECT_AFTER = 10_000


@with_settings()
def serve(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Run one pod: the admin API, and the listener that gateways connect to."""
    configure_logs(format_name=settings.log_format, pod_id=settings.pod_id)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        status = runner.run(run_pod(settings, announce=_announcement(_as_json if as_json else _for_people)))
    raise typer.Exit(status)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The fast event loop if it is installed."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not on Windows

    return uvloop.new_event_loop()


def _announcement(announce: Callable[[Pod], None]) -> Callable[[Pod], None]:
    """Announce the pod, and exclude present objects from garbage collection: they live as long as the process."""

    def ready(pod: Pod) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER, 10, 10)
        announce(pod)

    return ready


def _as_json(pod: Pod) -> None:
    print_json(
        {
            "pod": pod.settings.pod_id,
            "api": pod.api_url,
            "gateways": pod.gateway_url,
            "adminToken": pod.first_admin_token,
        }
    )
    sys.stdout.flush()


def _for_people(pod: Pod) -> None:
    screen.print(f"[bold]Gatecast[/bold] pod [cyan]{pod.settings.pod_id}[/cyan] is ready")
    screen.print(f"  admin API   {pod.api_url}/api/v1   (documentation: {pod.api_url}/docs)")
    screen.print(f"  gateways    {pod.gateway_url}")
    if pod.first_admin_token:
        screen.print(f"  admin token [bold]{pod.first_admin_token}[/bold]   (shown only once; keep it)")
