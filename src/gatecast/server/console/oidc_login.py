"""Logging in through the OIDC issuer: authorization code with PKCE.

No pod remembers a log-in in progress: a short-lived encrypted cookie does, so that the browser may return to any pod.
It is Lax and not Strict because the return begins on the issuer's pages.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from hmac import compare_digest
from secrets import token_urlsafe
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from gatecast.controlplane.access.admin_tokens import Caller
from gatecast.errors import Forbidden, NotFound, Unauthenticated
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.oidc import Authorization, OidcIssuer
from gatecast.server.console.rendering import SECURITY_HEADERS, page
from gatecast.server.console.routes import ConsoleRoute, is_secure, keep_session, local_target
from gatecast.server.sessions import Session

router = APIRouter(prefix="/login/oidc", route_class=ConsoleRoute, include_in_schema=False)

#: The cookie of a log-in in progress.
_COOKIE = "gatecast_login"

#: How long one may take there, in seconds.
_TIME = 10 * 60

_PLACE = "console-login"


@router.get("")
async def begin(
    request: Request, context: Context, target: Annotated[str, Query(alias="next", max_length=2_000)] = "/"
) -> Response:
    """Send the browser to the issuer."""
    issuer = _issuer(context)
    state, nonce, verifier = token_urlsafe(24), token_urlsafe(24), token_urlsafe(48)
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
    endpoint = await issuer.authorization_endpoint()
    asked = {
        "response_type": "code",
        "client_id": context.settings.oidc_client_id,
        "redirect_uri": _callback(request),
        "scope": "openid",
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    response = RedirectResponse(f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}", 303, SECURITY_HEADERS)
    begun = {"state": state, "nonce": nonce, "verifier": verifier, "next": local_target(target), "at": int(time.time())}
    response.set_cookie(
        _COOKIE,
        context.cookies.seal_values(begun, place=_PLACE),
        max_age=_TIME,
        path="/login/oidc",
        httponly=True,
        samesite="lax",
        secure=is_secure(request),
    )
    return response


@router.get("/callback")
async def finish(
    request: Request,
    context: Context,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4_000)] = "",
    error: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Begin the session of the person that the issuer has sent back."""
    issuer = _issuer(context)
    begun = context.cookies.open_values(request.cookies.get(_COOKIE, ""), place=_PLACE) or {}
    try:
        _check(begun, state, "" if code else error or "no code")
        caller = await _caller(request, context, issuer, code, begun)
    except (_Refused, Unauthenticated, Forbidden) as refused:
        problem = (
            "The issuer's answer about you is not valid." if isinstance(refused, Unauthenticated) else str(refused)
        )
        return _without_cookie(login_page(request, context, problem=problem, status=401))
    session = await _session(context, caller)
    # No redirect: a cookie that is Strict would not come along on a way that began at the issuer.
    response = _without_cookie(page(request, "login_done.html", target=local_target(str(begun["next"]))))
    keep_session(response, context, session, secure=is_secure(request))
    return response


def login_page(
    request: Request, context: AdminContext, *, problem: str = "", target: str = "/", status: int = 200
) -> Response:
    """The page that offers both ways to log in."""
    return page(
        request,
        "login.html",
        status=status,
        next=target,
        carried=[],
        problem=problem,
        shared=context.cookies.shared,
        oidc=offers_oidc(context),
    )


def offers_oidc(context: AdminContext) -> bool:
    """Whether people can log in through an issuer."""
    return context.oidc is not None and bool(context.settings.oidc_client_id)


class _Refused(Exception):
    """Nobody is logged in."""


def _check(begun: dict[str, Any], state: str, failure: str) -> None:
    if not state or not compare_digest(str(begun.get("state", "")).encode(), state.encode()):
        raise _Refused("This log-in did not start in this browser. Try again.")
    if time.time() - begun["at"] > _TIME:
        raise _Refused("This log-in took too long. Try again.")
    if failure:
        raise _Refused(f"The issuer did not log you in ({failure}).")


def _issuer(context: AdminContext) -> OidcIssuer:
    if context.oidc is None or not context.settings.oidc_client_id:
        raise NotFound("page", "login/oidc")
    return context.oidc


def _callback(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}/login/oidc/callback"


async def _caller(
    request: Request, context: AdminContext, issuer: OidcIssuer, code: str, begun: dict[str, Any]
) -> Caller:
    authorization = Authorization(
        code=code,
        verifier=str(begun["verifier"]),
        nonce=str(begun["nonce"]),
        redirect_uri=_callback(request),
        client_id=context.settings.oidc_client_id,
        client_secret=context.settings.oidc_client_secret,
    )
    return await issuer.exchange(authorization)


async def _session(context: AdminContext, caller: Caller) -> Session:
    now = int(time.time())
    return Session(
        digest="",
        organization=caller.organization,
        began=now,
        seen=now,
        subject=caller.subject,
        role=caller.role.value,
        generation=await context.log_outs.generation(caller.organization, caller.subject),
    )


def _without_cookie(response: Response) -> Response:
    response.delete_cookie(_COOKIE, path="/login/oidc", httponly=True, samesite="lax")
    return response
