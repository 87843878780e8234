"""The audit log."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from gatecast.server.admin_api.audit import Exactly, list_audit_entries
from gatecast.server.admin_api.context import Context
from gatecast.server.admin_api.paths import After
from gatecast.server.console.rendering import page
from gatecast.server.console.routes import ConsoleRoute, Visitor

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

#: Entries of one page.
_ROWS = 50

#: Words that are written in capitals.
_CAPITALS = {"llm": "LLM", "mcp": "MCP", "rest": "REST", "api": "API"}

#: Targets of entries that have a page.
_PAGE = re.compile(r"/(?:gateways|llm-providers|llm-proxies|mcp-proxies|rest-apis)/(?!new\b|bulk\b)[^/?]+")


def in_words(action: str) -> str:
    """The action in words: `create_llm_provider` is "Create LLM provider"."""
    text = " ".join(_CAPITALS.get(word, word) for word in action.split("_"))
    return text[:1].upper() + text[1:]


def page_of(target: str) -> str:
    """The page of an entry's target; empty: there is none."""
    found = _PAGE.match(target)
    return found[0] if found else ""


@router.get("/audit")
async def show_audit(
    request: Request,
    context: Context,
    visitor: Visitor,
    after: After = "",
    action: Exactly = "",
    subject: Exactly = "",
) -> Response:
    """Show who requested which change."""
    found = await list_audit_entries(context, visitor.organization, after, action, subject, _ROWS)
    filters = {name: value for name, value in (("action", action), ("subject", subject)) if value}
    return page(
        request,
        "audit.html",
        entries=[
            (each, in_words(each.action), about := each.target.removeprefix("/api/v1"), page_of(about))
            for each in found.items
        ],
        action=action,
        subject=subject,
        next=f"/audit?{urlencode({**filters, 'after': found.next})}" if found.next else "",
    )
