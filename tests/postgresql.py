"""A PostgreSQL server of the tests' own, from Debian's programs; it listens on a Unix socket only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest


class PostgreSQL:
    """A server that can be started and stopped."""

    def __init__(self, programs: Path, user: int | None, home: Path) -> None:
        self._programs = programs
        self._user = user
        self._home = home
        if user is not None:
            os.chown(home, user, -1)
        self._run("initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "--no-sync")

    def start(self) -> None:
        """Answer."""
        options = f"-F -c listen_addresses='' -c unix_socket_directories='{self._home}'"
        self._run("pg_ctl", "-D", self._home / "data", "-w", "-l", self._home / "log", "-o", options, "start")

    def stop(self) -> None:
        """Break off."""
        self._run("pg_ctl", "-D", self._home / "data", "-w", "-m", "immediate", "stop")

    def url(self, database: str = "postgres") -> str:
        """Where a database is; that of this name is there from the beginning."""
        return f"postgresql://postgres@/{database}?host={self._home}"

    def new_database(self) -> str:
        """The URL of a database without tables."""
        name = f"wye_{uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd="/")


@contextmanager
def server() -> Iterator[PostgreSQL]:
    """A server that is not started yet, and of which nothing is left; skips the test where there can be none."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs (initdb, postgres) are not installed")
    user: int | None = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        try:
            user = pwd.getpwnam("postgres").pw_uid
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user named postgres")
    with tempfile.TemporaryDirectory(prefix="wye-pg-", dir="/tmp") as folder:
        made = PostgreSQL(programs, user, Path(folder))
        try:
            yield made
        finally:
            if (Path(folder) / "data" / "postmaster.pid").exists():
                made.stop()


def _programs() -> Path | None:
    """The folder of PostgreSQL's server programs, the newest if there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).parent if on_path else None
