"""The options that every command has, and what they come to: a client to ask and a format to answer in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from controlplane.commands.client import Client
from controlplane.commands.connection import Connection, resolve
from controlplane.commands.output import write_json


@dataclass(frozen=True, slots=True)
class Session:
    """One command's connection options and output format."""

    url: str | None
    token: str | None = field(repr=False)
    state_dir: Path
    as_json: bool

    def connection(self) -> Connection:
        """Where Wye is at this moment; a Wye that was restarted meanwhile is found again."""
        return resolve(self.url, self.token, self.state_dir)

    def client(self) -> Client:
        """A client for use in a `with` statement."""
        return Client(self.connection())

    def tell(self, answer: Any, people: Callable[[], None]) -> None:
        """Print the answer: as JSON where that was asked for, else in the way of `people`."""
        if self.as_json:
            write_json(answer)
        else:
            people()


output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table for people, or JSON for scripts.",
)


def state_dir_option(meaning: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `--state-dir`, for what the help says."""
    return click.option(
        "--state-dir",
        envvar="WYE_STATE_DIR",
        show_envvar=True,
        default=".wye",
        show_default=True,
        metavar="DIR",
        type=click.Path(path_type=Path),
        help=meaning,
    )


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the connection options and `-o`; it receives them as a Session, its first argument."""

    @click.option("--url", envvar="WYE_URL", show_envvar=True, metavar="URL", help="Wye's public URL.")
    @click.option(
        "--token", envvar="WYE_TOKEN", show_envvar=True, metavar="TOKEN", help="The token to authenticate with."
    )
    @state_dir_option("State directory of the `wye up` to talk to, when --url is not given.")
    @output_option
    @functools.wraps(command)
    def with_session(url: str | None, token: str | None, state_dir: Path, output: str, **arguments: Any) -> None:
        command(Session(url or None, token or None, state_dir, output == "json"), **arguments)

    return with_session


def path_name(value: str) -> str:
    """The name, if it can stand in a URL's path; what else may be wrong with it, the server says."""
    if value in {"", ".", ".."}:
        raise click.BadParameter(f"{value!r} cannot be the name of anything.")
    return value


endpoint_name = click.argument("name", type=path_name)
