"""`wye split`: other percentages for the same entities."""

from __future__ import annotations

import click

from controlplane.commands.failures import Failure
from controlplane.commands.request import config_with_shares, share_flag, shares
from controlplane.commands.session import Session, connected, endpoint_name
from controlplane.commands.wait import follow, waiting


@click.command()
@endpoint_name
@click.argument("percentages", metavar="MODEL=PERCENT...", type=share_flag, nargs=-1, required=True)
@waiting
@connected
def split(
    session: Session,
    name: str,
    percentages: tuple[tuple[str, int], ...],
    wait: bool,
    timeout: float,
) -> None:
    """Change an endpoint's traffic percentages and nothing else.

    wye split multi-model current=50 challenger=50

    wye split multi-model current=100

    No worker restarts. A served entity that is not named gets 0: it stays deployed and answers direct queries.
    """
    traffic = shares(percentages)
    with session.client() as client:
        config = client.get(name).get("config")
        if not isinstance(config, dict) or not config.get("served_entities"):
            raise Failure(f"{name} serves nothing yet that could be split; see `wye status {name}`")
        answer = client.update_config(name, config_with_shares(config, traffic))
        follow(session, client, answer, wait=wait, timeout=timeout)
