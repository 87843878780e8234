"""`python -m gatecast`, and the command `gatecast`: says in a line what is not installed."""

from __future__ import annotations

import sys

from gatecast.extras import ExtraMissing


def run() -> None:
    """Run the command that the arguments name."""
    try:
        from gatecast.cli.main import run as run_command  # noqa: PLC0415 - not part of the library
    except ExtraMissing as missing:
        sys.exit(f"error: {missing}")
    run_command()


if __name__ == "__main__":
    run()
