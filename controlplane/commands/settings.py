"""`wye settings`: what can be set, and how."""

from __future__ import annotations

import click

from controlplane.commands.output import Layout, write_json, write_table
from controlplane.commands.session import output_option
from controlplane.settings import described


@click.command()
@output_option
def settings(output: str) -> None:
    """List every setting of `wye up`.

    Each is an environment variable; where `wye up` has a flag for it, the flag wins.
    """
    rows = described()
    if output == "json":
        write_json({"settings": rows})
    else:
        headers = ("variable", "default", "unit", "meaning")
        layout = Layout([header.upper() for header in headers])
        write_table(layout, [[row[header] for header in headers] for row in rows])
