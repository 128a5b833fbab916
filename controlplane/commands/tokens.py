"""`wye tokens`: make them for people and programs, see which there are, take them back."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click

from controlplane.commands.client import Json
from controlplane.commands.connection import resolve
from controlplane.commands.output import Layout, write, write_json, write_table
from controlplane.commands.session import Session, connected

_LIFETIME = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.group()
def tokens() -> None:
    """Make, list and revoke tokens."""


def _lifetime(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    match = _LIFETIME.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a time such as 90d, 12h, 30m or 45s.")
    return int(match[1]) * _SECONDS[match[2]]


@tokens.command("create")
@click.option("--user", help="For whom; by default for you.")
@click.option("--group", "groups", multiple=True, help="A group the holder is in; may be repeated.")
@click.option(
    "--lifetime", callback=_lifetime, metavar="TIME", help="Until when, such as 90d or 12h; forever by default."
)
@click.option("--comment", default="", help="What it is for.")
@connected
def create(session: Session, user: str | None, groups: tuple[str, ...], lifetime: int | None, comment: str) -> None:
    """Make a token and print it; it is not shown again.

    wye tokens create --user alice --group ds --lifetime 90d

    Members of the group admins may do everything. A token without --user is for you, with your groups.
    """
    body: Json = {"comment": comment}
    if user:
        body["user_name"] = user
    if groups:
        body["groups"] = list(groups)
    if lifetime:
        body["lifetime_seconds"] = lifetime
    with session.client() as client:
        made = client.create_token(body)
    session.tell(made, lambda: write(str(made["token_value"])))


@tokens.command("list")
@click.option("--mine", is_flag=True, help="Only your own; what others have, only members of the group admins may see.")
@connected
def list_tokens(session: Session, mine: bool) -> None:
    """List the tokens that are not revoked."""
    with session.client() as client:
        listed = client.tokens(mine=mine)
    if session.as_json:
        write_json(listed)
        return
    rows = [
        [
            info["token_id"],
            info.get("user_name", ""),
            ",".join(info.get("groups", ())),
            _day(info["creation_time"]),
            _day(info["expiry_time"]),
            info.get("comment", ""),
        ]
        for info in listed.get("token_infos", [])
    ]
    write_table(Layout(["ID", "USER", "GROUPS", "MADE", "EXPIRES", "COMMENT"]), rows)


@tokens.command("admin")
@connected
def admin(session: Session) -> None:
    """Print the admin's token, for those who may read Wye's state directory."""
    token = resolve(None, None, session.state_dir).token
    session.tell({"token_value": token}, lambda: write(token))


@tokens.command("revoke")
@click.argument("token_id")
@connected
def revoke(session: Session, token_id: str) -> None:
    """Revoke a token, by the id that `wye tokens list` shows.

    Returns when every Envoy has acknowledged that it refuses the token.
    """
    with session.client() as client:
        answer = client.revoke_token(token_id)
    session.tell(answer, lambda: write(f"{token_id} is revoked; every Envoy refuses it."))


def _day(milliseconds: int) -> str:
    return "never" if milliseconds < 0 else datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M")
