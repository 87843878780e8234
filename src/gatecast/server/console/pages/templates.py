"""Templates that LLM providers are made from: all of them, and the form that adds or changes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse

from gatecast.controlplane.documents import LlmProviderTemplate, derive_handle
from gatecast.errors import Conflict, InvalidValue, LimitReached, StaleWrite
from gatecast.server.admin_api.artifact_models import checked
from gatecast.server.admin_api.context import Context
from gatecast.server.admin_api.paths import ResourceId
from gatecast.server.console.forms import errors_by_field, json_or_text
from gatecast.server.console.logos import logo
from gatecast.server.console.rendering import SECURITY_HEADERS, page, pretty
from gatecast.server.console.routes import ConsoleRoute, Visitor

router = APIRouter(prefix="/llm-templates", route_class=ConsoleRoute, include_in_schema=False)

_FIELDS = ("handle", "name", "description", "endpoint_url", "header", "value_prefix", "extractors", "version")

#: Where an error of the document is shown.
_PLACES = {"endpointUrl": "endpoint_url", "auth": "header", "auth.header": "header", "auth.valuePrefix": "value_prefix"}

_EMPTY = dict.fromkeys(_FIELDS, "")


@router.get("")
async def list_templates(request: Request, context: Context, visitor: Visitor) -> Response:
    """All of them: first the built-in ones."""
    templates = await context.control_plane.templates.all(visitor.organization)
    return page(request, "templates.html", templates=templates, logo=logo)


@router.get("/new")
async def show_form(request: Request, visitor: Visitor) -> Response:
    """The form that adds one."""
    del visitor
    return _form(request, _EMPTY, {}, handle="")


@router.post("/new", operation_id="createTemplate")
async def add_template(request: Request, context: Context, visitor: Visitor) -> Response:
    """Add it, or show what is wrong."""
    values = _values(await request.form())
    if values["intent"] == "review":
        return _form(request, values, {}, handle="")
    try:
        template = checked(LlmProviderTemplate, _document(values, values["handle"] or derive_handle(values["name"])))
        await context.control_plane.templates.create(visitor.organization, template)
    except RequestValidationError as error:
        return _form(request, values, errors_by_field(error, _field_of), handle="", status=422)
    except (Conflict, InvalidValue, LimitReached) as error:
        place = getattr(error, "field", None) or "handle"
        return _form(request, values, {place: str(error)}, handle="", status=422)
    return RedirectResponse("/llm-templates", 303, SECURITY_HEADERS)


@router.get("/{handle}")
async def show_template(request: Request, context: Context, visitor: Visitor, handle: ResourceId) -> Response:
    """One of them; the built-in ones only to be read."""
    stored = await context.control_plane.templates.get(visitor.organization, handle)
    template = stored.template
    values = {
        **_EMPTY,
        "handle": template.handle,
        "name": template.name,
        "description": template.description,
        "endpoint_url": template.endpoint_url or "",
        "header": (template.auth and template.auth.header) or "",
        "value_prefix": template.auth.value_prefix if template.auth else "",
        "extractors": pretty(template.extractors.model_dump(by_alias=True, exclude_none=True)),
        "version": str(stored.version),
    }
    return _form(request, values, {}, handle=handle, read_only=stored.read_only)


@router.post("/{handle}")
async def replace_template(request: Request, context: Context, visitor: Visitor, handle: ResourceId) -> Response:
    """Store it as it is now, or show what is wrong."""
    values = _values(await request.form())
    if values["intent"] == "review":
        return _form(request, values, {}, handle=handle)
    version = int(values["version"]) if values["version"].isdigit() else None
    try:
        template = checked(LlmProviderTemplate, _document(values, handle))
        await context.control_plane.templates.replace(visitor.organization, template, version=version)
    except RequestValidationError as error:
        return _form(request, values, errors_by_field(error, _field_of), handle=handle, status=422)
    except StaleWrite as error:
        return _form(
            request, values, {"name": f"It was changed by someone else meanwhile: {error}"}, handle=handle, status=409
        )
    return RedirectResponse("/llm-templates", 303, SECURITY_HEADERS)


@router.post("/{handle}/delete")
async def delete_template(context: Context, visitor: Visitor, handle: ResourceId) -> Response:
    """Delete it; providers that were made from it stay."""
    await context.control_plane.templates.delete(visitor.organization, handle)
    return RedirectResponse("/llm-templates", 303, SECURITY_HEADERS)


def _values(form: FormData) -> dict[str, str]:
    return {name: str(form.get(name, "")) for name in (*_FIELDS, "intent")}


def _document(values: Mapping[str, str], handle: str) -> dict[str, Any]:
    document: dict[str, Any] = {"handle": handle, "name": values["name"]}
    if values["description"]:
        document["description"] = values["description"]
    if values["endpoint_url"]:
        document["endpointUrl"] = values["endpoint_url"]
    if values["header"]:
        document["auth"] = {"header": values["header"], "valuePrefix": values["value_prefix"]}
    if values["extractors"].strip():
        document["extractors"] = json_or_text(values["extractors"])
    return document


def _field_of(place: str) -> str:
    return _PLACES.get(place, place.partition(".")[0])


def _form(
    request: Request,
    values: Mapping[str, str],
    errors: Mapping[str, str],
    *,
    handle: str,
    read_only: bool = False,
    status: int = 200,
) -> Response:
    return page(
        request,
        "template_form.html",
        status=status,
        values=values,
        errors=errors,
        handle=handle,
        read_only=read_only,
    )
