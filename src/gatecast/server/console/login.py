"""Logging in and out."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from gatecast.controlplane.access.admin_tokens import Caller
from gatecast.controlplane.access.token_hashing import digest_of
from gatecast.errors import TooManyAttempts, Unauthenticated
from gatecast.server.admin_api.auditing import address_of
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.console.oidc_login import login_page, offers_oidc
from gatecast.server.console.rendering import SECURITY_HEADERS, page
from gatecast.server.console.routes import (
    ConsoleRoute,
    carried,
    is_secure,
    keep_session,
    local_target,
    require_own_origin,
)
from gatecast.server.sessions import COOKIE, Session

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

#: Fields of the log-in form itself; all others were carried along.
_OWN_FIELDS = frozenset({"token", "next"})


@router.get("/login")
async def show_login(
    request: Request, context: Context, target: Annotated[str, Query(alias="next", max_length=2_000)] = "/"
) -> Response:
    """The form that asks for an admin token."""
    return login_page(request, context, target=local_target(target))


@router.post("/login")
async def log_in(request: Request, context: Context) -> Response:
    """Begin a session, and return to the page where the person was."""
    require_own_origin(request)
    form = await request.form(max_files=0)
    token, target = str(form.get("token", "")).strip(), local_target(str(form.get("next", "/")))
    kept = [(name, value) for name, value in carried(form) if name not in _OWN_FIELDS]
    digest = digest_of(token)
    try:
        caller = await _caller(request, context, token, digest)
    except _Refused as refused:
        return page(
            request,
            "login.html",
            status=refused.status,
            next=target,
            carried=kept,
            problem=refused.problem,
            shared=context.cookies.shared,
            oidc=offers_oidc(context),
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


class _Refused(Exception):
    """Nobody is logged in."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(status, problem)
        self.status = status
        self.problem = problem


async def _caller(request: Request, context: AdminContext, token: str, digest: str) -> Caller:
    if not token:
        raise _Refused(401, "Enter an admin token.")
    try:
        async with context.attempts.counted(address_of(request, context.settings), digest):
            return _known(await context.admin_tokens.caller_with_digest(digest))
    except Unauthenticated:
        raise _Refused(401, "This is not a valid admin token.") from None
    except TooManyAttempts:
        raise _Refused(429, "Too many invalid tokens. Try again in a minute.") from None


def _known(caller: Caller | None) -> Caller:
    if caller is None:
        raise Unauthenticated
    return caller


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """End the session in this browser."""
    require_own_origin(request)
    return _logged_out(request)


@router.post("/logout/everywhere")
async def log_out_everywhere(request: Request, context: Context) -> Response:
    """End every session of this person; a token's sessions end when the token is revoked."""
    require_own_origin(request)
    session = context.cookies.open(request.cookies.get(COOKIE, ""))
    if session is not None and session.subject:
        await context.log_outs.everywhere(session.organization, session.subject)
    return _logged_out(request)


def _logged_out(request: Request) -> Response:
    response = RedirectResponse("/login", 303, SECURITY_HEADERS)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=is_secure(request))
    return response
