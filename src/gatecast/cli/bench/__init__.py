"""`gatecast bench`: figures for this machine and this database, each against an alternative in the same run."""

from __future__ import annotations

import typer

from gatecast.cli.bench.connect import connect
from gatecast.cli.bench.deliver import deliver
from gatecast.cli.bench.deploy import deploy
from gatecast.cli.bench.drain import drain
from gatecast.cli.bench.everything import everything
from gatecast.cli.bench.fan_out import fan_out
from gatecast.cli.bench.http import http
from gatecast.cli.bench.idle import idle
from gatecast.cli.bench.jetstream import jetstream
from gatecast.cli.bench.latency import latency
from gatecast.cli.bench.memory import memory
from gatecast.cli.bench.publish import publish
from gatecast.cli.bench.retention import retention
from gatecast.cli.bench.storm import storm
from gatecast.cli.bench.transaction import transaction

app = typer.Typer(no_args_is_help=True, help="Measure on this machine and this database.")
app.command()(publish)
app.command()(transaction)
app.command()(latency)
app.command()(drain)
app.command()(jetstream)
app.command()(memory)
app.command()(deliver)
app.command()(http)
app.command()(idle)
app.command()(connect)
app.command()(storm)
app.command()(retention)
app.command("fan-out")(fan_out)
app.command()(deploy)
app.command("all")(everything)
