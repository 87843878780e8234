"""The form that adds an LLM provider."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse

from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER
from gatecast.controlplane.documents import LlmProvider, LlmProviderTemplate, derive_handle
from gatecast.errors import Conflict, InvalidValue, NotFound
from gatecast.server.admin_api.artifact_models import checked
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.fleet import Fleet, FleetFilter, FleetGateway
from gatecast.server.console.forms import errors_by_field, json_or_text
from gatecast.server.console.logos import logo
from gatecast.server.console.rendering import SECURITY_HEADERS, page
from gatecast.server.console.routes import ConsoleRoute, Visitor

router = APIRouter(prefix="/llm-providers/new", route_class=ConsoleRoute, include_in_schema=False)

#: The element that each field of a provider is typed into.
_PLACES = {
    "name": "name",
    "version": "version",
    "context": "context",
    "description": "description",
    "template": "templates",
    "url": "url",
    "api_key": "api_key",
    "policies": "policies",
    "gateways": "gateways",
}

#: The names of these fields for people.
_NAMES = {
    "name": "Name",
    "version": "Version",
    "context": "Context",
    "description": "Description",
    "template": "Template",
    "url": "Upstream URL",
    "api_key": "API key",
    "policies": "Guardrails",
    "gateways": "Gateways",
}

#: Where an error of a document is shown.
_FIELDS = {"upstream.url": "url", "upstream.auth": "api_key", "upstream.auth.value": "api_key", "handle": "name"}

#: The same for whatever a field holds.
_BRANCHES = {"globalPolicies": "policies", "upstream": "url"}


#: So many gateways are shown at once; others are searched for.
_OFFERED = 100


@router.get("")
async def show_form(
    request: Request,
    context: Context,
    visitor: Visitor,
    gateway_q: Annotated[str, Query(max_length=120)] = "",
    gateway: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """The form, with its defaults; the named gateways, or the first one that is connected, are chosen."""
    standings = (await context.fleets.look(visitor.organization)).standings
    connected = next((each.id for each in standings if each.connected), None)
    values = {
        "name": "",
        "version": "v1.0",
        "context": "",
        "description": "",
        "template": "",
        "url": "",
        "api_key": "",
        "policies": "",
        "gateways": gateway or ([connected] if connected else []),
        "gateway_q": gateway_q,
    }
    return await _form(request, context, visitor.organization, values, {})


@router.post("", operation_id="createLlmProvider")
async def add_provider(request: Request, context: Context, visitor: Visitor) -> Response:
    """Add the provider, or show every field that needs another value."""
    form = await request.form(max_files=0)
    values = _values(form)
    if form.get("intent") == "review":
        return await _form(request, context, visitor.organization, values, {})
    templates = {
        each.template.handle: each.template for each in await context.control_plane.templates.all(visitor.organization)
    }
    template = templates.get(values["template"])
    errors = _missing(values, template)
    document = None
    try:
        document = checked(LlmProvider, _document(values, template))
    except RequestValidationError as error:
        errors = {**errors_by_field(error, _field_of), **errors}
    if document is not None and not errors:
        try:
            created = await context.control_plane.artifacts.create(
                visitor.organization, LLM_PROVIDER, document, gateways=values["gateways"]
            )
        except (Conflict, InvalidValue, NotFound) as error:
            field = getattr(error, "field", None) or "gateways"
            errors = {_FIELDS.get(field, field): str(error)}
        else:
            return RedirectResponse(f"/llm-providers/{created.artifact.id}", 303, SECURITY_HEADERS)
    return await _form(request, context, visitor.organization, values, errors, status=422)


def _values(form: FormData) -> dict[str, Any]:
    texts = ("name", "version", "context", "description", "template", "url", "api_key", "policies", "gateway_q")
    return {name: str(form.get(name, "")) for name in texts} | {
        "gateways": [str(each) for each in form.getlist("gateways")]
    }


def _missing(values: dict[str, Any], template: LlmProviderTemplate | None) -> dict[str, str]:
    """The form's own rules, beyond those of the document."""
    errors = {}
    if template is None:
        errors["template"] = "Choose a template."
    elif not values["url"] and template.endpoint_url is None:
        errors["url"] = "Enter the address of your provider; this template has none."
    if template is not None and template.auth and template.auth.header and not values["api_key"]:
        errors["api_key"] = f"Enter the provider's key; it is sent as {template.auth.header}."
    if not values["gateways"]:
        errors["gateways"] = "Choose at least one gateway."
    return errors


def _document(values: dict[str, Any], template: LlmProviderTemplate | None) -> dict[str, Any]:
    url = values["url"] or (template.endpoint_url if template else None)
    upstream: dict[str, Any] = {"url": url}
    if values["api_key"] and template and template.auth and template.auth.header:
        value = f"{template.auth.value_prefix}{values['api_key']}"
        upstream["auth"] = {"type": "api-key", "header": template.auth.header, "value": value}
    document = {
        "name": values["name"],
        "version": values["version"],
        "template": values["template"],
        "upstream": upstream,
    }
    optional = {name: values[name] for name in ("context", "description") if values[name]}
    if optional.get("context") == f"/{derive_handle(values['name'])}":
        # The form derived it from the name: if it is taken, another one will do.
        del optional["context"]
    if values["policies"].strip():
        optional["globalPolicies"] = json_or_text(values["policies"])
    return document | optional


def _field_of(place: str) -> str:
    branch = place.partition(".")[0]
    return _FIELDS.get(place, _BRANCHES.get(branch, branch))


async def _form(
    request: Request,
    context: AdminContext,
    organization: str,
    values: dict[str, Any],
    errors: dict[str, str],
    *,
    status: int = 200,
) -> Response:
    templates = [each.template for each in await context.control_plane.templates.all(organization)]
    fleet = await context.fleets.look(organization)
    offered = _offered(fleet, frozenset(values["gateways"]), values["gateway_q"])
    details = await context.gateways.those(organization, [each.id for each in offered])
    return page(
        request,
        "provider_form.html",
        status=status,
        values=values,
        errors=errors,
        places=_PLACES,
        field_names=_NAMES,
        templates=templates,
        gateways=[(each, details[each.id].fields) for each in offered if each.id in details],
        more=len(fleet.standings) - len(offered),
        logo=logo,
    )


def _offered(fleet: Fleet, chosen: frozenset[str], text: str) -> list[FleetGateway]:
    """The chosen gateways, and the first of those with this in their names, in the order of names."""
    found = [each.id for each in fleet.matching(FleetFilter(text=text))]
    wanted = chosen.union(found[:_OFFERED])
    return [each for each in fleet.standings if each.id in wanted]
