"""`wye status`: what is served and how it is doing, once or for as long as one looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from controlplane.commands.client import Client, Json
from controlplane.commands.connection import Connection
from controlplane.commands.failures import Failure, Missing
from controlplane.commands.output import clean, fitted_table, plain_table, terminal, write, write_json, write_table
from controlplane.commands.session import Session, connected, path_name
from controlplane.commands.view import (
    STATUS,
    EndpointView,
    endpoint_view,
    endpoint_views,
    is_summary,
    status_rows,
)

NOTHING = "There are no endpoints."
HOST_AWAY = "The worker host is out of reach: what runs serves on, and nothing new starts until it is back."
#: Up to so many endpoints, what a list leaves out (the API may leave out weights and states) is asked for one by one.
DETAILED = 200


@dataclass(frozen=True, slots=True)
class Look:
    """What was last answered (None before the first answer), and why the latest look got no answer ("" when it did)."""

    answer: Json | None
    trouble: str = ""


@click.command()
@click.argument("name", type=path_name, required=False)
@click.option("-w", "--watch", is_flag=True, help="Refresh until Ctrl-C; waits for Wye while it is away.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two refreshes.",
)
@connected
def status(session: Session, name: str | None, watch: bool, interval: float) -> None:
    """Show what every endpoint serves, and how it is doing.

    One row for each served entity of the active config, and of the pending one during an update or after a failed one.
    With --watch and `-o json`, or where the output is no terminal, each change is printed as it is seen.
    """
    if not watch:
        with session.client() as client:
            _show(session, _ask(client, name), name)
            if name is None and not session.as_json:
                _show_programs(client)
        return
    try:
        _watch(session, name, lambda: time.sleep(interval))
    except KeyboardInterrupt:
        return


def looks(session: Session, name: str | None, pause: Callable[[], None]) -> Iterator[Look]:
    """One look at Wye after another, `pause` between them, for ever.

    A Wye that is away or restarting is looked for again each time, state directory included; anything else that fails
    is raised.
    """
    answer: Json | None = None
    client: Client | None = None
    connection: Connection | None = None
    try:
        while True:
            trouble = ""
            try:
                found = session.connection()
                if client is None or found != connection:
                    if client is not None:
                        client.close()
                    client, connection = Client(found), found
                answer = _ask(client, name)
            except Failure as failure:
                if not failure.passing:
                    raise
                trouble = failure.format_message()
            yield Look(answer, trouble)
            pause()
    finally:
        if client is not None:
            client.close()


def _ask(client: Client, name: str | None) -> Json:
    if name is not None:
        return client.get(name)
    body = client.list()
    endpoints = body.get("endpoints")
    if not isinstance(endpoints, list) or len(endpoints) > DETAILED:
        return body
    listed = (each for each in endpoints if isinstance(each, dict))
    return {**body, "endpoints": [full for each in listed if (full := _in_full(client, each)) is not None]}


def _in_full(client: Client, listed: Json) -> Json | None:
    """The listed endpoint, asked for again if the list only summarises it; None when it is gone by now."""
    if not is_summary(listed):
        return listed
    try:
        return client.get(str(listed.get("name")))
    except Missing:
        return None


def _views(answer: Json, name: str | None) -> list[EndpointView]:
    return endpoint_views(answer) if name is None else [endpoint_view(answer)]


def _show(session: Session, answer: Json, name: str | None) -> None:
    if session.as_json:
        write_json(answer)
        return
    rows = status_rows(_views(answer, name))
    if rows:
        write_table(STATUS, rows)
    else:
        click.echo(NOTHING, err=True)


def _show_programs(client: Client) -> None:
    """What people should know of Wye's programs: that the worker host is away; which of several control planes acts."""
    try:
        status = client.status()
    except Failure:
        return  # not for everybody's eyes, or an older release
    host, planes = status.get("worker_host"), status.get("control_planes")
    if isinstance(host, dict) and host.get("connected") is False:
        click.echo(HOST_AWAY, err=True)
    if isinstance(planes, list) and len(planes) > 1:
        told = (f"{each['name']} {'acts' if each['acts'] else 'stands by'}" for each in planes)
        click.echo(clean(f"Control planes: {', '.join(told)}"), err=True)


def _watch(session: Session, name: str | None, pause: Callable[[], None]) -> None:
    console = terminal(sys.stdout)
    if session.as_json or not console.is_terminal:
        _print_changes(session, name, pause)
        return
    with Live(console=console, auto_refresh=False) as live:
        for look in looks(session, name, pause):
            live.update(_picture(look, name), refresh=True)


def _print_changes(session: Session, name: str | None, pause: Callable[[], None]) -> None:
    before = Look(None)
    for look in looks(session, name, pause):
        if look.trouble and look.trouble != before.trouble:
            click.echo(f"{look.trouble}; trying again", err=True)
        if not look.trouble and (look.answer != before.answer or before.trouble) and look.answer is not None:
            if session.as_json:
                write_json(look.answer, indent=None)
            else:
                write(plain_table(STATUS, status_rows(_views(look.answer, name))) + "\n")
        before = look


def _picture(look: Look, name: str | None) -> RenderableType:
    parts: list[RenderableType] = []
    if look.answer is not None:
        rows = status_rows(_views(look.answer, name))
        parts.append(fitted_table(STATUS, rows) if rows else Text(NOTHING))
    if look.trouble:
        parts.append(Text(clean(f"{look.trouble}; trying again"), style="red"))
    return Group(*parts)
