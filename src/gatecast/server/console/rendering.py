"""Turns values into pages: one environment of templates, and the few filters that they use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from gatecast.controlplane.access.admin_tokens import Role
from gatecast.version import __version__

#: What browsers may do on our pages: run and show what this server gives them, and nothing else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

#: Sent with every page.
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def age(seconds: float) -> str:
    """A duration in its two largest units: `3 min`, `2 h 5 min`, `4 d 1 h`."""
    left = max(0, int(seconds))
    for (size, unit), (smaller, smaller_unit) in pairwise(_UNITS):
        if left >= size:
            rest = left % size // smaller
            return f"{left // size} {unit}" + (f" {rest} {smaller_unit}" if rest and size > 60 else "")  # noqa: PLR2004 - minutes stand alone
    return f"{left} s"


def moment(value: datetime | None) -> Markup:
    """An instant as its age, with the exact time for scripts and on hover."""
    if value is None:
        return Markup('<span class="muted">never</span>')
    exact = value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    ago = age((datetime.now(UTC) - value) / timedelta(seconds=1))
    return Markup('<time datetime="{}" title="{}">{} ago</time>').format(exact, exact.replace("T", " "), ago)


def instant(value: datetime) -> Markup:
    """An instant to the millisecond: where what matters is less than a second."""
    exact = value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}" data-exact>{}</time>').format(exact, exact.replace("T", " "))


def number(value: float) -> str:
    """A number with separators, as people read it."""
    return f"{value:,}"


def sentence(text: str) -> Markup:
    """The text as a sentence: a capital at its beginning, a full stop at its end; commands as such."""
    whole = f"{text[:1].upper()}{text[1:].rstrip('.')}."
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(whole.split("`"))
    )


def pretty(value: object) -> str:
    """JSON over several lines."""
    return json.dumps(value, indent=2, ensure_ascii=False)


_environment = Environment(
    loader=PackageLoader("gatecast.server.console"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(
    age=age,
    instant=instant,
    moment=moment,
    number=number,
    pretty=pretty,
    sentence=sentence,
    path=lambda text: quote(text, safe=""),
)
_environment.globals.update(version=__version__)


def render(template: str, values: Mapping[str, Any]) -> str:
    """The text of a template."""
    return _environment.get_template(template).render(**values)


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:  # noqa: ANN401 - whatever it shows
    """An answer made from a template, with the headers of every page."""
    caller = getattr(request.state, "caller", None)
    may_change = caller is None or caller.role is Role.ADMIN
    shared = {
        "caller": caller,
        "may_change": may_change,
        "path": request.url.path,
        "query": request.query_params,
        **values,
    }
    return HTMLResponse(render(template, shared), status_code=status, headers=SECURITY_HEADERS)


def static_folder() -> str:
    """Where the style sheet and the scripts lie."""
    return str(resources.files("gatecast.server.console") / "static")
