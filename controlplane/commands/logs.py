"""`wye logs`: what a served model printed."""

from __future__ import annotations

import click

from controlplane.commands.output import clean, write, write_json
from controlplane.commands.session import Session, connected, endpoint_name, path_name


@click.command()
@endpoint_name
@click.argument("served", metavar="SERVED", type=path_name)
@click.option("--build", is_flag=True, help="How its environment was chosen and built, instead of what it printed.")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="The config version; by default the latest.")
@connected
def logs(session: Session, name: str, served: str, build: bool, version: int | None) -> None:
    """Print the last lines of a served model's replicas, each after the replica's id.

    Those of an update that failed are kept: wye logs NAME SERVED --version N
    """
    with session.client() as client:
        body = client.logs(name, served, "build-logs" if build else "logs", version)
    if session.as_json:
        write_json(body)
    elif text := clean(str(body.get("logs", ""))):
        write(text)
    else:
        click.echo(f"{served} has printed nothing.", err=True)
