"""The audit log."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from gatecast.server.admin_api.audit import list_audit_entries
from gatecast.server.admin_api.context import Context
from gatecast.server.console.rendering import page
from gatecast.server.console.routes import ConsoleRoute, Visitor

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

#: Entries of one page.
_ROWS = 50

_Filter = Annotated[str, Query(max_length=255)]


@router.get("/audit")
async def show_audit(
    request: Request,
    context: Context,
    visitor: Visitor,
    after: _Filter = "",
    action: _Filter = "",
    subject: _Filter = "",
) -> Response:
    """Who asked for which change."""
    found = await list_audit_entries(context, visitor.organization, after, action, subject, _ROWS)
    filters = {name: value for name, value in (("action", action), ("subject", subject)) if value}
    return page(
        request,
        "audit.html",
        entries=found.items,
        action=action,
        subject=subject,
        next=f"/audit?{urlencode({**filters, 'after': found.next})}" if found.next else "",
    )
