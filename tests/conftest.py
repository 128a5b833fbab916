"""Options and fixtures that every test may use."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.postgresql import PostgreSQL
from tests.postgresql import server as postgresql_server


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option, for the golden files."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what the code gives now")


# A machine that has other things to do may keep any example waiting; and whether a change is good may not hang on chance.
settings.register_profile("wye", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wye")

# Shells start what runs in the background without Ctrl-C, which tests send to what they start, and programs would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where there are several processes, what is dealt out one by one comes last, so that none of them ends much later."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.nodeid.startswith(SHARING))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes a folder of that name, once for all processes of a run; nobody may change what is in it afterwards."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared / name
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
            if not (folder / "done").exists():
                make(folder)
                (folder / "done").touch()
        return folder

    return made


@pytest.fixture(scope="session")
def mlflow_tables(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """An MLflow database with nothing in its tables, to be copied: MLflow takes seconds to make them."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{folder}/mlflow.db"]
        subprocess.run(command, check=True, capture_output=True)

    return once("mlflow-tables", make) / "mlflow.db"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A private PostgreSQL server that tests share, each with databases of its own."""
    with postgresql_server() as running:
        running.start()
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, which `mount -o remount,size=4m` makes larger."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)
