"""Logging in and out."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from gatecast.controlplane.secrets import digest_of
from gatecast.server.admin_api.context import Context
from gatecast.server.console.rendering import SECURITY_HEADERS, page
from gatecast.server.console.routes import ConsoleRoute, carried, is_secure, keep_session, require_own_origin
from gatecast.server.console.session import COOKIE, Session

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

#: Fields of the log-in form itself; all others were carried along.
_OWN_FIELDS = frozenset({"token", "next"})


@router.get("/login")
async def show_login(
    request: Request, context: Context, target: Annotated[str, Query(alias="next", max_length=2_000)] = "/"
) -> Response:
    """The form that asks for an admin token."""
    return page(request, "login.html", next=_local(target), carried=[], problem="", shared=context.cookies.shared)


@router.post("/login")
async def log_in(request: Request, context: Context) -> Response:
    """Begin a session, and go on where the person was."""
    require_own_origin(request)
    form = await request.form()
    token, target = str(form.get("token", "")).strip(), _local(str(form.get("next", "/")))
    kept = [(name, value) for name, value in carried(form) if name not in _OWN_FIELDS]
    digest = digest_of(token)
    caller = await context.admin_tokens.caller_with_digest(digest) if token else None
    if caller is None:
        problem = "Enter an admin token." if not token else "This is not a valid admin token."
        return page(
            request,
            "login.html",
            status=401,
            next=target,
            carried=kept,
            problem=problem,
            shared=context.cookies.shared,
        )
    now = int(time.time())
    session = Session(digest=digest, organization=caller.organization, began=now, seen=now)
    if kept:
        request.state.caller = caller
        response: Response = page(request, "resume.html", target=target, carried=kept)
    else:
        response = RedirectResponse(target, 303, SECURITY_HEADERS)
    keep_session(response, context, session, secure=is_secure(request))
    return response


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """End the session in this browser."""
    require_own_origin(request)
    response = RedirectResponse("/login", 303, SECURITY_HEADERS)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=is_secure(request))
    return response


def _local(target: str) -> str:
    """The target when it is a page of ours, else the first page."""
    parts = urlsplit(target)
    is_ours = (
        target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.netloc and "\\" not in target
    )
    return target if is_ours and target.isprintable() else "/"
