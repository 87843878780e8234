"""`gatecast settings`: every option, its value here, and its meaning."""

from __future__ import annotations

import os

from gatecast.cli.output import JsonFlag, print_json, print_table
from gatecast.settings import Settings, descriptions, show


def settings(*, as_json: JsonFlag = False) -> None:
    """Show every setting: its variable, its value here, its default, and what it means."""
    here, plain = Settings.read(), Settings()
    rows = [
        {
            "variable": one.variable,
            "flag": one.flag,
            "value": "(set)" if one.secret and os.environ.get(one.variable) else show(getattr(here, one.name)),
            "default": "made when empty" if one.name == "pod_id" else show(getattr(plain, one.name)),
            "meaning": one.meaning,
        }
        for one in descriptions()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            rows,
            {"variable": "VARIABLE", "value": "VALUE", "default": "DEFAULT", "meaning": "MEANING"},
            empty="there are no settings",
        )
