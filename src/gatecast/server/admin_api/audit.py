"""`/api/v1/audit`: who asked for which change, and what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from gatecast.controlplane.access.audit import END
from gatecast.server.admin_api.context import Context, Organization
from gatecast.server.admin_api.models import NEXT, Model
from gatecast.server.admin_api.paths import After, Limit

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

Exactly = Annotated[
    str, Query(max_length=255, pattern=r"^[^\x00]*$", description="Only entries with exactly this value.")
]


class AuditEntryView(Model):
    """A change that a caller requested."""

    id: str
    asked_at: datetime
    subject: str = Field(description="The token or person that sent the request.")
    role: str
    remote: str = Field(description="The address that the request came from.")
    door: str = Field(description="`api` or `console`.")
    action: str = Field(description="What was asked for.", examples=["create_gateway"])
    target: str = Field(description="The resource that it concerns, or that it created.")
    status: int | None = Field(
        description="The HTTP status of the answer. Null: the pod ended before it answered, so look at the target."
    )


class AuditPage(Model):
    """A page of the audit log, the newest entries first."""

    items: list[AuditEntryView]
    next: str | None = Field(description=NEXT)


@router.get("")
async def list_audit_entries(
    context: Context,
    organization: Organization,
    after: After = "",
    action: Exactly = "",
    subject: Exactly = "",
    limit: Limit = 100,
) -> AuditPage:
    """A page of the changes that were requested in your organization, newest first. Entries are kept for 400 days."""
    found = await context.audit.page(
        organization, before=_cursor(after), action=action, subject=subject, limit=limit + 1
    )
    items = [AuditEntryView.model_validate(each, from_attributes=True) for each in found[:limit]]
    return AuditPage(items=items, next=found[limit - 1].cursor if len(found) > limit else None)


def _cursor(after: str) -> tuple[int, str]:
    """Where the page begins; an unknown cursor begins at the newest."""
    asked_at, _, entry_id = after.partition(":")
    return (int(asked_at), entry_id) if asked_at.isascii() and asked_at.isdigit() and len(asked_at) < 16 else END  # noqa: PLR2004 - fits a bigint
