"""`/api/v1/llm-provider-templates`: the built-in ones, and those of the organization."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import Field

from gatecast.controlplane.catalog.templates import StoredTemplate
from gatecast.controlplane.documents import LlmProviderTemplate
from gatecast.errors import Conflict
from gatecast.server.admin_api.artifact_models import ReadOnly, checked
from gatecast.server.admin_api.context import Context, Organization
from gatecast.server.admin_api.examples import TEMPLATE, shown
from gatecast.server.admin_api.json_bodies import JsonRoute
from gatecast.server.admin_api.models import WHOLE, Etag, Model
from gatecast.server.admin_api.paths import CREATED, IfMatch, ResourceId, etag_of, located, version_in

router = APIRouter(prefix="/api/v1/llm-provider-templates", tags=["llm-provider-templates"], route_class=JsonRoute)


class TemplateView(LlmProviderTemplate):
    """A template, and whether it can be changed."""

    read_only: bool = Field(description="True: it is built in.")
    etag: Etag
    created_at: datetime | None
    updated_at: datetime | None


class ChangedTemplate(LlmProviderTemplate):
    """A template as it was read; fields that cannot be changed are ignored."""

    read_only: ReadOnly = None
    etag: ReadOnly = None
    created_at: ReadOnly = None
    updated_at: ReadOnly = None


class TemplateList(Model):
    """Templates."""

    items: list[TemplateView]
    next: Annotated[None, Field(description=WHOLE)] = None


_READ_ONLY = set(ChangedTemplate.model_fields) - set(LlmProviderTemplate.model_fields)


@router.get("")
async def list_templates(context: Context, organization: Organization) -> TemplateList:
    """The built-in templates, and up to 200 of your organization's own."""
    return TemplateList(items=[_view(each) for each in await context.control_plane.templates.all(organization)])


@router.get("/{handle}")
async def show_template(
    handle: ResourceId, context: Context, organization: Organization, response: Response
) -> TemplateView:
    """One template."""
    return _shown(await context.control_plane.templates.get(organization, handle), response)


@router.post("", status_code=201, responses=CREATED)
async def create_template(
    body: Annotated[LlmProviderTemplate, Body(openapi_examples=shown(TEMPLATE))],
    context: Context,
    organization: Organization,
    response: Response,
) -> TemplateView:
    """Add a template. It is not sent to gateways: add it to their template folders as well."""
    stored = await context.control_plane.templates.create(organization, body)
    located(response, "llm-provider-templates", stored.template.handle)
    return _shown(stored, response)


@router.put("/{handle}")
async def replace_template(
    handle: ResourceId,
    body: Annotated[ChangedTemplate, Body(openapi_examples=shown(TEMPLATE))],
    context: Context,
    organization: Organization,
    response: Response,
    if_match: IfMatch = None,
) -> TemplateView:
    """Replace a template of your organization; existing providers do not change."""
    if body.handle != handle:
        raise Conflict(f'the handle of a template does not change: the path says "{handle}"', field="handle")
    values = body.model_dump(by_alias=True, exclude_unset=True, exclude=_READ_ONLY)
    template = checked(LlmProviderTemplate, values)
    stored = await context.control_plane.templates.replace(organization, template, version=version_in(if_match))
    return _shown(stored, response)


@router.delete("/{handle}", status_code=204)
async def delete_template(
    handle: ResourceId, context: Context, organization: Organization, if_match: IfMatch = None
) -> None:
    """Delete a template of your organization."""
    await context.control_plane.templates.delete(organization, handle, version=version_in(if_match))


def _view(stored: StoredTemplate) -> TemplateView:
    values = stored.template.model_dump(by_alias=True)
    added = {
        "readOnly": stored.read_only,
        "etag": etag_of(stored.version),
        "createdAt": stored.created_at,
        "updatedAt": stored.updated_at,
    }
    return checked(TemplateView, {**values, **added})


def _shown(stored: StoredTemplate, response: Response) -> TemplateView:
    response.headers["ETag"] = etag_of(stored.version)
    return _view(stored)
