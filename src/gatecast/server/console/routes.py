"""The common part of every page: the visitor's session, and the page shown for an error."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

from fastapi import Depends, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from gatecast.controlplane.access.admin_tokens import Caller, Role
from gatecast.controlplane.newer_releases import member
from gatecast.errors import Forbidden, GatecastError, NotFound, StorageError
from gatecast.events import MAX_IDENTIFIER_LENGTH
from gatecast.server.admin_api.auditing import allow
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.named import artifact_id_of, gateway_ids
from gatecast.server.console.rendering import SECURITY_HEADERS, page
from gatecast.server.error_replies import problem
from gatecast.server.sessions import COOKIE, Session
from gatecast.telemetry import get_logger

_SAFE_METHODS = frozenset({"GET", "HEAD"})

_logger = get_logger("console")


class NotLoggedIn(GatecastError):
    """Nobody is logged in, or the session is over."""

    def __str__(self) -> str:
        return "log in to continue"


async def visitor_of(request: Request, context: Context) -> Session:
    """The session of the visitor.

    Raises:
        NotLoggedIn: nobody is logged in, the session is over, or the token was revoked.
        Forbidden: another site sent the request, or the visitor may only read.
        StorageUnavailable: that cannot be told now.
    """
    if request.method not in _SAFE_METHODS:
        require_own_origin(request)
    session = context.cookies.open(request.cookies.get(COOKIE, ""))
    now = int(time.time())
    if session is None or session.is_over(now):
        raise NotLoggedIn
    caller = await _caller_of(context, session)
    request.state.session, request.state.caller = session, caller
    await allow(request, context, caller, door="console")
    request.state.renewed = session.renewed(now)
    return session


async def _caller_of(context: AdminContext, session: Session) -> Caller:
    """The session's caller, if it is still valid: no revoked token, and no log-out everywhere since."""
    if not session.subject:
        caller = await context.admin_tokens.caller_with_digest(session.digest)
        if caller is None or caller.organization != session.organization:
            raise NotLoggedIn
        return caller
    if context.oidc is None or not context.settings.oidc_client_id:
        raise NotLoggedIn
    if await context.log_outs.generation(session.organization, session.subject) != session.generation:
        raise NotLoggedIn
    role = member(Role, "the role", session.role)
    return Caller(organization=session.organization, role=role, subject=session.subject)


def local_target(target: str) -> str:
    """The target when it is a page of ours, else the first page."""
    parts = urlsplit(target)
    is_ours = (
        target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.netloc and "\\" not in target
    )
    return target if is_ours and target.isprintable() else "/"


Visitor = Annotated[Session, Depends(visitor_of)]


async def _gateway_of(
    gateway_id: Annotated[str, Path(max_length=MAX_IDENTIFIER_LENGTH)], context: Context, visitor: Visitor
) -> str:
    [found] = await gateway_ids(context, visitor.organization, [gateway_id])
    return found


async def _artifact_of(
    artifact_id: Annotated[str, Path(max_length=253, pattern=r"^[^\x00]*$")],
    request: Request,
    context: Context,
    visitor: Visitor,
) -> str:
    return await artifact_id_of(context, visitor.organization, request.scope["route"].path.split("/")[1], artifact_id)


#: The id of the gateway, or the artifact, that the path names by its id, its name or its handle.
GatewayOfPage = Annotated[str, Depends(_gateway_of)]
ArtifactOfPage = Annotated[str, Depends(_artifact_of)]


def require_own_origin(request: Request) -> None:
    """See to it that the request comes from a page of ours: cookies alone do not say so.

    Raises:
        Forbidden: it comes from elsewhere.
    """
    origin = request.headers.get("Origin")
    if origin is None or urlsplit(origin).netloc != request.headers.get("Host"):
        raise Forbidden("the request comes from another site")


def keep_session(response: Response, context: AdminContext, session: Session, *, secure: bool) -> None:
    """Let the browser send this session from now on."""
    response.set_cookie(
        COOKIE, context.cookies.encrypt(session), httponly=True, samesite="strict", secure=secure, path="/"
    )


def is_secure(request: Request) -> bool:
    """Whether the browser reached us over TLS."""
    return request.url.scheme == "https"


class ConsoleRoute(APIRoute):
    """A page: whatever goes wrong is shown as one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the request."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                response = await answer(request)
            except NotLoggedIn:
                return await _ask_to_log_in(request)
            except (GatecastError, RequestValidationError, HTTPException) as error:
                return await _refusal(request, error)
            except Exception as error:
                _logger.exception("page-failed", path=request.url.path)
                return await _refusal(request, error)
            renewed = getattr(request.state, "renewed", None)
            if renewed is not None and COOKIE not in response.headers.get("set-cookie", ""):
                keep_session(response, request.app.state.context, renewed, secure=is_secure(request))
            return response

        return handler


async def _ask_to_log_in(request: Request) -> Response:
    """The log-in page; what was typed into a form goes along, and comes back after it."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method in _SAFE_METHODS:
        if request.headers.get("HX-Request"):
            return Response(
                status_code=401, headers={**SECURITY_HEADERS, "HX-Redirect": f"/login?{urlencode({'next': here})}"}
            )
        return RedirectResponse(f"/login?{urlencode({'next': here})}", 303, SECURITY_HEADERS)
    form = await request.form(max_files=0)
    return page(
        request,
        "login.html",
        status=401,
        next=here,
        carried=carried(form),
        problem="Your session has ended. Log in again: nothing that you typed is lost.",
        shared=True,
        oidc=False,
    )


def carried(form: FormData) -> list[tuple[str, str]]:
    """The typed input, to carry it through the log-in."""
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


async def _refusal(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        status, title, detail = error.status_code, str(error.detail), ""
    elif isinstance(error, RequestValidationError):
        status, title, detail = 422, "This address is incomplete", "A part of it is not valid."
    else:
        status, body = problem(error)
        title, detail = body["title"], body["detail"]
    kind = (
        "missing"
        if isinstance(error, NotFound) or status == HTTPStatus.NOT_FOUND
        else "away"
        if isinstance(error, StorageError)
        else "refused"
    )
    # The input can be sent again once the database is back.
    again = carried(await request.form()) if kind == "away" and request.method not in _SAFE_METHODS else None
    answer = page(request, "problem.html", status=status, title=title, detail=detail, kind=kind, again=again)
    if kind == "missing" and request.headers.get("HX-Request"):
        # The subject of an open page was deleted: the page reloads and says so, instead of showing its last state.
        answer.headers["HX-Refresh"] = "true"
    return answer
