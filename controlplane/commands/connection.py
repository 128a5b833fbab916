"""Where Wye is and which token opens it: flags and environment first, then what `wye up` wrote in its state directory."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import click

from controlplane.commands.failures import Unreachable


@dataclass(frozen=True, slots=True)
class Connection:
    """A public URL, without a slash at its end, and the token for it ("" when none is known)."""

    url: str
    token: str = field(default="", repr=False)
    #: The file both were found in, for error messages; None when the user gave them.
    source: Path | None = None
    #: The registry that this Wye asks, as the file says.
    mlflow_uri: str = field(default="", repr=False)

    @property
    def loopback(self) -> bool:
        """True when the URL is on this machine, where no proxy can be meant."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


def resolve(url: str | None, token: str | None, state_dir: Path) -> Connection:
    """The connection these options mean.

    A token that `wye up` recorded is used only for the URL it recorded, never for another one.

    Raises UsageError for a URL or token that cannot be one, Unreachable when no Wye is known.
    """
    given = None if token is None else _checked_token(token)
    if url is not None:
        url = _checked_url(url)
        if given is None:
            try:
                recorded = _recorded(state_dir)
            except Unreachable:
                recorded = None
            given = recorded.token if recorded is not None and recorded.url == url else ""
        return Connection(url, given)
    recorded = _recorded(state_dir)
    if recorded is None:
        raise Unreachable("no running Wye found: start one with `wye up`, or give --url and --token")
    return recorded if given is None else Connection(recorded.url, given, recorded.source)


def recorded_registry(state_dir: Path) -> str:
    """The URI of the MLflow registry that the Wye of this state directory asks.

    Raises Unreachable when no Wye is known.
    """
    connection = _recorded(state_dir)
    if connection is None:
        raise Unreachable("no running Wye found: start one with `wye up`, or give --mlflow-uri")
    return connection.mlflow_uri


def _recorded(state_dir: Path) -> Connection | None:
    path = state_dir / "wye.json"
    try:
        content = json.loads(path.read_bytes())
        url, token = _checked_url(content["url"]), _checked_token(content.get("token") or "")
        return Connection(url, token, path, str(content.get("mlflow_uri") or ""))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, click.UsageError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not what `wye up` writes"
        raise Unreachable(f"cannot read {path}: {reason}; restart `wye up`, or give --url and --token") from error


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s?#]", url):
        raise click.UsageError(f"the URL of Wye looks like http://localhost:8080, not like {url!r}")
    return url.rstrip("/")


def _checked_token(token: str) -> str:
    token = token.strip()
    if re.fullmatch(r"[\x21-\x7e]*", token) is None:
        raise click.UsageError("the token has characters that no token has; was it copied whole?")
    return token
