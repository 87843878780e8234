"""`/api/v1/llm-provider-templates`: the built-in ones, and those of the organization."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import Field

from gatecast.controlplane.documents import LlmProviderTemplate
from gatecast.controlplane.templates import StoredTemplate
from gatecast.errors import Conflict
from gatecast.server.admin_api.artifact_models import checked
from gatecast.server.admin_api.context import Context, Organization
from gatecast.server.admin_api.models import Model
from gatecast.server.admin_api.paths import IfMatch, ResourceId, version_in

router = APIRouter(prefix="/api/v1/llm-provider-templates", tags=["llm-provider-templates"])


class TemplateView(LlmProviderTemplate):
    """A template, and whether it can be changed."""

    read_only: bool = Field(description="True: it is built in.")
    created_at: datetime | None
    updated_at: datetime | None


class TemplateList(Model):
    """Templates."""

    items: list[TemplateView]


@router.get("")
async def list_templates(context: Context, organization: Organization) -> TemplateList:
    """The built-in templates, and those of your organization, of which there are at most 200."""
    return TemplateList(items=[_view(each) for each in await context.resources.templates.all(organization)])


@router.get("/{handle}")
async def show_template(
    handle: ResourceId, context: Context, organization: Organization, response: Response
) -> TemplateView:
    """One template."""
    return _shown(await context.resources.templates.get(organization, handle), response)


@router.post("", status_code=201)
async def create_template(
    body: LlmProviderTemplate, context: Context, organization: Organization, response: Response
) -> TemplateView:
    """Add a template. Gateways do not learn of it: add it to their template folders as well."""
    return _shown(await context.resources.templates.create(organization, body), response)


@router.put("/{handle}")
async def replace_template(
    handle: ResourceId,
    body: LlmProviderTemplate,
    context: Context,
    organization: Organization,
    response: Response,
    if_match: IfMatch = None,
) -> TemplateView:
    """Replace a template of your organization; providers that were made from it stay as they are."""
    if body.handle != handle:
        raise Conflict(f'the handle of a template does not change: the path says "{handle}"', field="handle")
    stored = await context.resources.templates.replace(organization, body, version=version_in(if_match))
    return _shown(stored, response)


@router.delete("/{handle}", status_code=204)
async def delete_template(handle: ResourceId, context: Context, organization: Organization) -> None:
    """Delete a template of your organization."""
    await context.resources.templates.delete(organization, handle)


def _view(stored: StoredTemplate) -> TemplateView:
    values = stored.template.model_dump(by_alias=True)
    added = {"readOnly": stored.read_only, "createdAt": stored.created_at, "updatedAt": stored.updated_at}
    return checked(TemplateView, {**values, **added})


def _shown(stored: StoredTemplate, response: Response) -> TemplateView:
    response.headers["ETag"] = f'"{stored.version}"'
    return _view(stored)
