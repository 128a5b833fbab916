"""Options and fixtures that every test may use."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from xdist.scheduler import LoadScopeScheduling


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option, for the golden files."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what the code gives now")


# Before MLflow is imported: a test run is nobody's usage statistics.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

#: Where the tests of a module share what takes seconds to make: a running Wye, a worker host, an MLflow registry.
SHARING = ("tests/e2e/", "tests/model_worker/", "tests/controlplane/bundle/", "tests/controlplane/registry/")


class ByModule(LoadScopeScheduling):
    """Deals out tests module by module where what they share would else be made in each process, others one by one."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0] if nodeid.startswith(SHARING) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByModule:
    """Ours with any `--dist`; xdist's own groups (3.8) go unseen by pytest 9.2, which keeps node ids elsewhere."""
    return ByModule(config, log)


def postgresql_programs() -> Path | None:
    """The folder of PostgreSQL's server programs, the newest if there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The connection settings of a private PostgreSQL server that listens on a Unix socket only."""
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs (initdb, postgres) are not installed")
    user: int | None = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        try:
            user = pwd.getpwnam("postgres").pw_uid
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user named postgres")
    with tempfile.TemporaryDirectory(prefix="wye-pg-", dir="/tmp") as folder:
        home = Path(folder)
        if user is not None:
            os.chown(home, user, -1)
        make = [programs / "initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")
        run = [programs / "pg_ctl", "-D", home / "data", "-w", "-l", home / "log"]
        options = f"-F -c listen_addresses='' -c unix_socket_directories='{home}'"
        subprocess.run([*run, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")
        try:
            yield f"host={home} user=postgres"
        finally:
            stop = [*run, "-m", "immediate", "stop"]
            subprocess.run(stop, check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")


@pytest.fixture
def postgresql_database(postgresql: str) -> Callable[[], str]:
    """Makes databases without tables on that server, and gives their URLs."""
    return lambda: new_database(postgresql)


def new_database(server: str) -> str:
    """The URL of a database without tables."""
    name = f"wye_{uuid4().hex}"
    with psycopg.connect(f"{server} dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    host = server.split(maxsplit=1)[0].removeprefix("host=")
    return f"postgresql://postgres@/{name}?host={host}"
