"""`gatecast provider|proxy|api|mcp …`: the artifacts that gateways run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gatecast.cli.gateway import json_object
from gatecast.cli.output import (
    JsonFlag,
    Output,
    OutputOption,
    complaints,
    print_fields,
    print_json,
    print_table,
    screen,
)
from gatecast.cli.remote import (
    DEFAULT_URL,
    ServerOption,
    TokenOption,
    ask,
    ask_for_all,
    complete,
    complete_gateways,
    path_to,
)
from gatecast.errors import InvalidValue

#: The command and the admin API path of each kind.
COLLECTIONS = {"provider": "llm-providers", "proxy": "llm-proxies", "api": "rest-apis", "mcp": "mcp-proxies"}

_File = Annotated[
    str, typer.Argument(metavar="FILE", help="A file with its document in JSON; - reads it from standard input.")
]
_Gateways = Annotated[
    list[str],
    typer.Option(
        "--gateway", help="Id or name of a gateway to deploy it to; repeatable.", autocompletion=complete_gateways
    ),
]
_Gateway = Annotated[
    str, typer.Argument(metavar="GATEWAY", help="Id or name of the gateway.", autocompletion=complete_gateways)
]
_Deployment = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Id of a revision, from `deployments`.")]
_Wait = Annotated[bool, typer.Option("--wait", help="Return when the gateway has acknowledged it.")]
_Timeout = Annotated[float, typer.Option(help="How long to wait, in seconds.")]


def _path(context: typer.Context, *parts: str) -> str:
    """The admin API path of the kind that the command names, or of one part of it."""
    assert context.parent is not None  # noqa: S101 - each command is in a group
    return path_to(COLLECTIONS[str(context.parent.info_name)], *parts)


def _complete_names(ctx: typer.Context, incomplete: str) -> list[str]:
    return complete(ctx, _path(ctx), "handle", incomplete)


_Name = Annotated[str, typer.Argument(metavar="NAME", help="Its handle, or its id.", autocompletion=_complete_names)]


def create(
    context: typer.Context,
    file: _File,
    *,
    gateway: _Gateways = [],  # noqa: B006 - typer copies it
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Store the document in FILE, and deploy it to the named gateways."""
    body = {**_document(file), **({"gateways": gateway} if gateway else {})}
    _show_one(ask(url, token, "POST", _path(context), body), "created", as_json=as_json)


def list_all(
    context: typer.Context,
    *,
    output: OutputOption = Output.SHORT,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """List all, ordered by handle."""
    items = ask_for_all(url, token, _path(context))
    if as_json:
        print_json(items)
        return
    columns = {"handle": "NAME", "name": "DISPLAY NAME", "version": "VERSION", "updatedAt": "UPDATED"}
    print_table(items, columns, wide={"id": "ID", "context": "CONTEXT"}, output=output, empty="none yet")


def show(
    context: typer.Context,
    name: _Name,
    *,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Show it, and the state of its deployment on each gateway."""
    found = ask(url, token, "GET", _path(context, name))
    if as_json:
        print_json(found)
    else:
        print_fields(found, [key for key in found if key != "openapi"])


def replace(
    context: typer.Context,
    name: _Name,
    file: _File,
    *,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Replace the document with the one in FILE, and deploy it to every gateway that runs the artifact."""
    _show_one(ask(url, token, "PUT", _path(context, name), _document(file)), "replaced", as_json=as_json)


def update(
    context: typer.Context,
    name: _Name,
    changes: Annotated[str, typer.Argument(help='A JSON merge patch, like {"version": "v2.0"}.')],
    *,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Change the fields that CHANGES names, and deploy the result to every gateway that runs the artifact."""
    body = json_object("CHANGES", changes)
    _show_one(ask(url, token, "PATCH", _path(context, name), body), "changed", as_json=as_json)


def delete(
    context: typer.Context,
    name: _Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
) -> None:
    """Delete it and its keys, and remove both from every gateway."""
    if not yes:
        typer.confirm(f"Delete {name} and its keys, everywhere?", abort=True)
    ask(url, token, "DELETE", _path(context, name))
    screen.print(f"deleted [bold]{name}[/bold]")


def deploy(
    context: typer.Context,
    name: _Name,
    gateway: _Gateway,
    *,
    wait: _Wait = False,
    timeout: _Timeout = 10.0,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Deploy the present document to a gateway, as a new revision."""
    path = _path(context, name, "deployments")
    _deployed(url, token, path, {"gatewayId": gateway}, wait=wait, timeout=timeout, as_json=as_json)


def undeploy(
    context: typer.Context,
    name: _Name,
    gateway: _Gateway,
    *,
    wait: _Wait = False,
    timeout: _Timeout = 10.0,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Undeploy it from a gateway. It can be deployed or restored again."""
    path = _path(context, name, "undeploy")
    _deployed(url, token, path, {"gatewayId": gateway}, wait=wait, timeout=timeout, as_json=as_json)


def restore(
    context: typer.Context,
    name: _Name,
    deployment: _Deployment,
    *,
    wait: _Wait = False,
    timeout: _Timeout = 10.0,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Deploy the content of an older revision to its gateway again, as a new revision."""
    path = _path(context, name, "deployments", deployment, "restore")
    _deployed(url, token, path, None, wait=wait, timeout=timeout, as_json=as_json)


def deployments(
    context: typer.Context,
    name: _Name,
    *,
    output: OutputOption = Output.SHORT,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """List its revisions on all gateways, newest first."""
    items = ask_for_all(url, token, _path(context, name, "deployments"))
    if as_json:
        print_json(items)
        return
    columns = {"id": "ID", "revision": "REVISION", "state": "STATE", "reason": "REASON"}
    wide = {"gatewayId": "GATEWAY", "performedAt": "PERFORMED", "createdAt": "CREATED"}
    print_table(items, columns, wide=wide, output=output, empty="not deployed yet")


def _document(file: str) -> dict[str, Any]:
    """The document in a file.

    Raises:
        InvalidValue: it cannot be read, or is not a JSON object.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue("FILE", file, f"be a file that can be read ({type(error).__name__})") from error
    return json_object("FILE", text)


def _show_one(artifact: dict[str, Any], what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(artifact)
    else:
        screen.print(f"{what} [bold]{artifact['handle']}[/bold] {artifact['id']}")


def _deployed(url: str, token: str, path: str, body: object, *, wait: bool, timeout: float, as_json: bool) -> None:
    parameters = {"wait": "applied", "timeout": str(timeout)} if wait else None
    found = ask(url, token, "POST", path, body, parameters=parameters, extra=timeout if wait else 0)
    if as_json:
        print_json(found)
    else:
        screen.print(f"revision [bold]{found['revision']}[/bold] {found['id']}: {found['state']}")
    if wait and found["state"] in ("PENDING", "UNDEPLOYING", "FAILED"):
        complaints.print(f"stored, but not applied: {found['reason'] or found['state']}", style="red")
        raise typer.Exit(1)


def _commands(collection: str) -> typer.Typer:
    app = typer.Typer(no_args_is_help=True, help=f"Create, list, show, change, deploy and delete {collection}.")
    app.command(name="list")(list_all)
    for command in (create, show, replace, update, delete, deploy, undeploy, restore, deployments):
        app.command()(command)
    return app


provider, proxy, api, mcp = map(_commands, COLLECTIONS.values())
