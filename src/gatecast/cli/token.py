"""`gatecast token …`: the tokens of gateways."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gatecast.cli.gateway import GatewayArgument
from gatecast.cli.output import JsonFlag, complaints, print_json, print_table, screen
from gatecast.cli.remote import DEFAULT_URL, ServerOption, TokenOption, ask, complete, gateway_path

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke the tokens of a gateway.")


def _complete_tokens(ctx: Any, incomplete: str) -> list[str]:  # noqa: ANN401 - typer's own copy of click has no public types
    return complete(ctx, gateway_path(ctx.params["gateway"], "tokens"), "id", incomplete)


@app.command()
def create(
    gateway: GatewayArgument, *, url: ServerOption = DEFAULT_URL, token: TokenOption = "", as_json: JsonFlag = False
) -> None:
    """Create a token. It is shown only once. A gateway has at most two active tokens."""
    created = _tokens(url, token, gateway, "POST")
    if as_json:
        print_json(created)
    else:
        screen.print(f"[bold]{created['token']}[/bold]")
        # Not in the output, which a shell can capture as it is: TOKEN="$(gatecast token create …)".
        complaints.print(
            "This is the only time it is shown. The gateway sends it in the header `api-key`.", style="dim"
        )


@app.command(name="list")
def list_tokens(
    gateway: GatewayArgument, *, url: ServerOption = DEFAULT_URL, token: TokenOption = "", as_json: JsonFlag = False
) -> None:
    """List a gateway's tokens, without their secrets."""
    items = _tokens(url, token, gateway, "GET")["items"]
    if as_json:
        print_json(items)
    else:
        columns = {
            "id": "ID",
            "prefix": "PREFIX",
            "createdAt": "CREATED",
            "lastUsedAt": "LAST USED",
            "revokedAt": "REVOKED",
        }
        print_table(items, columns, empty=f"no tokens yet; create one with: gatecast token create {gateway}")


@app.command()
def revoke(
    gateway: GatewayArgument,
    token_id: Annotated[
        str,
        typer.Argument(
            help="Id of the token, from `gatecast token list`.",
            autocompletion=_complete_tokens,
        ),
    ],
    *,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
) -> None:
    """Revoke a token. Every pod closes its connections."""
    _tokens(url, token, gateway, "DELETE", token_id)
    screen.print(f"revoked token {token_id}")


def _tokens(url: str, token: str, gateway: str, method: str, *token_id: str) -> Any:  # noqa: ANN401 - JSON
    return ask(url, token, method, gateway_path(gateway, "tokens", *token_id))
