"""`wye endpoints`: list, get, create, update, delete; history, rollback, cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

import click

from controlplane.commands.client import Json
from controlplane.commands.failures import Failure
from controlplane.commands.output import Layout, write, write_json, write_table
from controlplane.commands.request import (
    config_of_flags,
    create_body,
    entity_flag,
    read_document,
    share_flag,
    shares,
    update_body,
)
from controlplane.commands.session import Session, connected, endpoint_name
from controlplane.commands.view import (
    HISTORY,
    LIST,
    STATUS,
    detail_rows,
    endpoint_view,
    endpoint_views,
    history_rows,
    list_rows,
    status_rows,
)
from controlplane.commands.wait import follow, waiting


def config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the ways to say what an endpoint serves."""
    for option in (
        click.option(
            "-f",
            "--file",
            type=click.File("rb"),
            metavar="FILE",
            help="JSON or YAML: a config, a whole create request, or what `endpoints get -o json` printed. "
            "`-` is standard input.",
        ),
        click.option(
            "--traffic",
            type=share_flag,
            multiple=True,
            metavar="NAME=PERCENT",
            help="Percentage of requests for a served entity. Repeat; one entity alone gets 100.",
        ),
        click.option(
            "--entity",
            type=entity_flag,
            multiple=True,
            metavar="[NAME=]MODEL:VERSION",
            help="Serve a version of a registered model, such as current=churn:3. Repeat.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def endpoints() -> None:
    """List, show, create, update and delete endpoints."""


@endpoints.command("list")
@connected
def list_(session: Session) -> None:
    """List the endpoints you may see."""
    with session.client() as client:
        body = client.list()
    if session.as_json:
        write_json(body)
        return
    rows = list_rows(endpoint_views(body))
    if rows:
        write_table(LIST, rows)
    else:
        click.echo("There are no endpoints; `wye endpoints create --help` tells how to make one.", err=True)


@endpoints.command()
@endpoint_name
@connected
def get(session: Session, name: str) -> None:
    """Show one endpoint: its configs, its entities and how each is doing."""
    with session.client() as client:
        body = client.get(name)
    if session.as_json:
        write_json(body)
    else:
        write_table(Layout(("ENDPOINT", name)), detail_rows(body))
        write("")
        write_table(STATUS, status_rows([endpoint_view(body)]))


@endpoints.command()
@endpoint_name
@config_options
@waiting
@connected
def create(
    session: Session,
    name: str,
    *,
    entity: tuple[Json, ...],
    traffic: tuple[tuple[str, int], ...],
    file: IO[bytes] | None,
    wait: bool,
    timeout: float,
) -> None:
    """Create an endpoint.

    Without --entity and without -f it serves nothing until it is updated.
    """
    _refuse_both(entity, traffic, file)
    if file is not None:
        body = create_body(name, read_document(file))
    elif entity or traffic:
        body = {"name": name, "config": config_of_flags(entity, shares(traffic))}
    else:
        body = {"name": name}
    with session.client() as client:
        follow(session, client, client.create(body), wait=wait, timeout=timeout)


@endpoints.command()
@endpoint_name
@config_options
@waiting
@connected
def update(
    session: Session,
    name: str,
    *,
    entity: tuple[Json, ...],
    traffic: tuple[tuple[str, int], ...],
    file: IO[bytes] | None,
    wait: bool,
    timeout: float,
) -> None:
    """Replace what an endpoint serves.

    The whole config is replaced: an entity that is not given again is gone afterwards. To change only percentages,
    use `wye split`.
    """
    _refuse_both(entity, traffic, file)
    if file is not None:
        config, left = update_body(name, read_document(file))
        if left:
            click.echo(f"Note: an update sends the config only; not sent: {', '.join(left)}.", err=True)
    elif entity:
        config = config_of_flags(entity, shares(traffic))
    else:
        raise click.UsageError("give --entity or -f; to change only percentages, use `wye split`")
    with session.client() as client:
        follow(session, client, client.update_config(name, config), wait=wait, timeout=timeout)


@endpoints.command()
@endpoint_name
@connected
def history(session: Session, name: str) -> None:
    """Show every config version there was, and what became of it."""
    with session.client() as client:
        body = client.history(name)
    session.tell(body, lambda: write_table(HISTORY, history_rows(body)))


@endpoints.command()
@endpoint_name
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="The config version to go back to.")
@waiting
@connected
def rollback(session: Session, name: str, *, version: int | None, wait: bool, timeout: float) -> None:
    """Go back to the config that served before the present one, or to --version.

    It becomes a new config version; `wye endpoints history NAME` shows which there are.
    """
    with session.client() as client:
        follow(session, client, client.rollback(name, version), wait=wait, timeout=timeout)


@endpoints.command()
@endpoint_name
@connected
def cancel(session: Session, name: str) -> None:
    """Call off the update in progress; what served before goes on."""
    with session.client() as client:
        body = client.cancel(name)
    session.tell(body, lambda: write_table(STATUS, status_rows([endpoint_view(body)])))


@endpoints.command()
@endpoint_name
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@connected
def delete(session: Session, name: str, yes: bool) -> None:
    """Delete an endpoint and stop what it serves."""
    with session.client() as client:
        if not yes:
            _confirm(name)
        body = client.delete(name)
    session.tell(body, lambda: write(f"Deleted {name}."))


def _confirm(name: str) -> None:
    try:
        agreed = click.confirm(f"Delete {name}, for good?", err=True)
    except click.Abort:
        raise Failure(f"{name} was not deleted: nobody answered; give --yes to delete without being asked") from None
    if not agreed:
        raise Failure(f"{name} was not deleted")


def _refuse_both(entity: tuple[Json, ...], traffic: tuple[tuple[str, int], ...], file: IO[bytes] | None) -> None:
    if file is not None and (entity or traffic):
        raise click.UsageError("give either -f or --entity and --traffic, not both")
