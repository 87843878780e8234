"""`gatecast admin-token …`: the tokens of administrators. Works on the database, not through a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from gatecast.cli.databases import open_tables
from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, complaints, print_json, print_table, screen
from gatecast.controlplane.access.admin_tokens import AdminToken, AdminTokens, Role
from gatecast.hub import prepare_schema
from gatecast.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke the tokens of administrators.")


@app.command()
@with_settings("database", "outbox", "pooler")
def create(
    organization: Annotated[str, typer.Argument(help="The organization that the token administers.")] = "default",
    *,
    role: Annotated[Role, typer.Option(help="admin, or viewer: reads everything except secrets.")] = Role.ADMIN,
    settings: Settings,
    as_json: JsonFlag = False,
) -> None:
    """Create a token. It is shown only once."""
    token_id, token = asyncio.run(_create(settings, organization, role))
    if as_json:
        print_json({"id": token_id, "organization": organization, "role": role, "token": token})
    else:
        screen.print(f"[bold]{token}[/bold]")
        complaints.print("This is the only time it is shown. Send it as `Authorization: Bearer …`.", style="dim")


@app.command(name="list")
@with_settings("database", "outbox", "pooler")
def list_tokens(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """List the tokens, without their secrets."""
    tokens = asyncio.run(_list(settings))
    items = [
        {
            "id": each.id,
            "organization": each.organization,
            "role": each.role,
            "createdAt": each.created_at.isoformat(),
        }
        for each in tokens
    ]
    if as_json:
        print_json(items)
    else:
        columns = {"id": "ID", "organization": "ORGANIZATION", "role": "ROLE", "createdAt": "CREATED"}
        print_table(items, columns, empty="no tokens yet; create one with: gatecast admin-token create")


@app.command()
@with_settings("database", "outbox", "pooler")
def revoke(
    token_id: Annotated[str, typer.Argument(help="Id of the token, from `gatecast admin-token list`.")],
    *,
    settings: Settings,
) -> None:
    """Revoke a token: requests with it are refused from now on."""
    asyncio.run(_revoke(settings, token_id))
    screen.print(f"revoked admin token {token_id}")


async def _create(settings: Settings, organization: str, role: Role) -> tuple[str, str]:
    async with _admin_tokens(settings) as tokens:
        return await tokens.issue(organization, role)


async def _list(settings: Settings) -> list[AdminToken]:
    async with _admin_tokens(settings) as tokens:
        return await tokens.all()


async def _revoke(settings: Settings, token_id: str) -> None:
    async with _admin_tokens(settings) as tokens:
        await tokens.revoke(token_id)


@asynccontextmanager
async def _admin_tokens(settings: Settings) -> AsyncIterator[AdminTokens]:
    async with open_tables(settings) as opened:
        await prepare_schema(opened.storage, "never")
        yield AdminTokens(opened.storage)
