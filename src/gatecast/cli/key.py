"""`gatecast key …`: the API keys of providers, proxies and APIs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gatecast.cli.artifacts import COLLECTIONS
from gatecast.cli.output import JsonFlag, Output, OutputOption, complaints, print_json, print_table, screen
from gatecast.cli.remote import DEFAULT_URL, ServerOption, TokenOption, ask, complete, path_to
from gatecast.errors import InvalidValue

app = typer.Typer(
    no_args_is_help=True, help="Create, list, rotate and revoke the API keys of providers, proxies and APIs."
)


def _artifacts(ctx: Any, incomplete: str) -> list[str]:  # noqa: ANN401 - typer's own copy of click has no public types
    kind, slash, begun = incomplete.partition("/")
    if not slash:
        return [f"{each}/" for each in COLLECTIONS if each.startswith(kind)]
    names = complete(ctx, path_to(COLLECTIONS[kind]), "handle", begun) if kind in COLLECTIONS else []
    return [f"{kind}/{name}" for name in names]


_Artifact = Annotated[
    str,
    typer.Argument(
        metavar="ARTIFACT",
        help="Kind and handle (or id), like provider/openai or api/orders.",
        autocompletion=_artifacts,
    ),
]
_Name = Annotated[str, typer.Argument(metavar="KEY", help="Name of the key.")]
_Expires = Annotated[str, typer.Option(help="When it stops working, like 2027-01-01T00:00:00Z.")]


@app.command()
def create(
    artifact: _Artifact,
    name: _Name,
    *,
    expires_at: _Expires = "",
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Create a key for every gateway that has the artifact. Its value is shown only once."""
    body = {"name": name, **({"expiresAt": expires_at} if expires_at else {})}
    _show(ask(url, token, "POST", _path(artifact), body), as_json=as_json)


@app.command(name="list")
def list_keys(
    artifact: _Artifact,
    *,
    output: OutputOption = Output.SHORT,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """List the keys without their values."""
    items = ask(url, token, "GET", _path(artifact))["items"]
    if as_json:
        print_json(items)
        return
    columns = {"name": "NAME", "maskedValue": "VALUE", "expiresAt": "EXPIRES", "revokedAt": "REVOKED"}
    wide = {"id": "ID", "createdAt": "CREATED", "updatedAt": "UPDATED"}
    print_table(items, columns, wide=wide, output=output, empty="no keys yet")


@app.command()
def rotate(
    artifact: _Artifact,
    name: _Name,
    *,
    expires_at: _Expires = "",
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Give a key a new value, which is shown only once. The old value stops working."""
    body = {"expiresAt": expires_at} if expires_at else None
    _show(ask(url, token, "POST", _path(artifact, name, "rotate"), body), as_json=as_json)


@app.command()
def revoke(artifact: _Artifact, name: _Name, *, url: ServerOption = DEFAULT_URL, token: TokenOption = "") -> None:
    """Revoke a key on every gateway that has it."""
    ask(url, token, "DELETE", _path(artifact, name))
    screen.print(f"revoked key [bold]{name}[/bold]")


def _path(artifact: str, *more: str) -> str:
    """The path of its keys.

    Raises:
        InvalidValue: the kind is unknown.
    """
    kind, _, name = artifact.partition("/")
    if kind not in COLLECTIONS:
        raise InvalidValue("ARTIFACT", artifact, f"begin with one of {', '.join(f'{each}/' for each in COLLECTIONS)}")
    return path_to(COLLECTIONS[kind], name, "api-keys", *more)


def _show(key: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(key)
    else:
        screen.print(f"[bold]{key['value']}[/bold]")
        complaints.print("This is the only time it is shown.", style="dim")
