"""`/healthz`, `/readyz`, `/metrics`, `/openapi.json` and `/asyncapi.yaml`: for operators and authors of clients."""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gatecast.controlplane.access.token_hashing import digest_of, same_digest
from gatecast.errors import Unauthenticated
from gatecast.hub import EventHub
from gatecast.server.admin_api.auditing import address_of
from gatecast.server.admin_api.context import Context
from gatecast.server.probe import Probe
from gatecast.telemetry import metrics

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def is_alive() -> dict[str, str]:
    """Answers 200 while the process runs."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"description": "Not ready; `problems` says why."}})
async def is_ready(context: Context, response: Response) -> dict[str, Any]:
    """Whether this pod should receive traffic, and if not, why."""
    problems, deaf, replication = await context.problems(), context.hub.wakeup_problem, context.replication()
    response.status_code = 503 if problems else 200
    return {
        "status": "not ready" if problems else "ready",
        "problems": problems,
        "wakeups": f"not connected; polling delivers: {deaf}" if deaf else "connected",
        "probe": describe_probe(context.probe),
        "replication": None if replication is None else str(replication),
        "outbox": describe_outbox(context.hub),
    }


def describe_outbox(hub: EventHub) -> str | None:
    """How this pod stands to the log that its outbox feeds, in a few words; None: it has no outbox.

    A pod is ready while the log is away: it takes changes, and delivers them once the log is back.
    """
    if not hub.has_outbox:
        return None
    forwarder = hub.outbox.forwarder
    problems = [*hub.delivery.alarms, *([alarm] if (alarm := forwarder.loop.alarm) is not None else [])]
    if problems:
        return f"changes are taken and wait: {'; '.join(problems)}"
    return "connected; this pod forwards" if forwarder.lease.term is not None else "connected; another pod forwards"


def describe_probe(probe: Probe | None) -> str:
    """The result of the last events of this pod's probe, in a few words."""
    if probe is None:
        return "off"
    counts = probe.recent
    if not any(counts.values()):
        return "on; no event was due in the last five minutes"
    said = f"of the last {sum(counts.values())} events "
    said += ", ".join(f"{count} {result.replace('-', ' ')}" for result, count in counts.items() if count)
    usual = probe.usual_seconds
    return said if usual is None else f"{said}; half within {usual * 1000:.0f} ms"


@router.get("/metrics", response_class=Response)
async def read_metrics(request: Request, context: Context) -> Response:
    """Counters and gauges for Prometheus. Needs `GATECAST_METRICS_TOKEN` as bearer token if that is set."""
    wanted = context.settings.metrics_token
    if wanted:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        async with context.attempts.counted(address_of(request, context.settings), digest_of(token)):
            if scheme.lower() != "bearer" or not same_digest(digest_of(token.strip()), digest_of(wanted)):
                raise Unauthenticated
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", include_in_schema=False)
async def read_documentation(request: Request) -> JSONResponse:
    """The documentation of every route, as OpenAPI. It is built in a thread, so that no gateway waits for it."""
    return JSONResponse(await asyncio.to_thread(request.app.openapi))


@router.get("/asyncapi.yaml", include_in_schema=False)
async def read_protocol() -> Response:
    """The protocol between gateways and pods, as AsyncAPI: for writing a client in another language."""
    text = resources.files("gatecast.protocol").joinpath("asyncapi.yaml").read_text("utf-8")
    return Response(text, media_type="application/yaml")
