"""One registry for the session, one `wye up` for the tests that do not break it, and fresh ones for those that do."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.wye import Wye

#: Of each program's log, with a failure.
LAST_LINES = 80


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here as e2e."""
    for item in items:
        if "tests/e2e" in str(item.path).replace("\\", "/"):
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the programs of each Wye have said last: their logs are gone when the tests are over."""
    report = yield
    folder = getattr(item, "funcargs", {}).get("short_dir")
    if report.failed and folder is not None:
        for program in ("controlplane", "worker_host", "envoy"):
            for log in sorted(folder.glob(f"*/logs/{program}.log")):
                lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
                report.sections.append((f"the end of {log.relative_to(folder)}", "\n".join(lines)))
    return report


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """A temporary directory whose path leaves room for the names of Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="wye-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def registry(once: Callable[[str, Callable[[Path], object]], Path], mlflow_tables: Path) -> str:
    """A real MLflow registry (SQLite) with the models of tests/e2e/models.py, which no test changes."""

    def make(folder: Path) -> None:
        shutil.copy(mlflow_tables, folder)
        program = [sys.executable, str(Path(__file__).with_name("models.py")), f"sqlite:///{folder}/mlflow.db"]
        subprocess.run([*program, str(folder)], check=True, capture_output=True)

    return f"sqlite:///{once('registry', make)}/mlflow.db"


@pytest.fixture(scope="session")
def wye(registry: str, short_dir: Path) -> Iterator[Wye]:
    """A running Wye that tests share: each uses endpoints of its own and leaves the programs alone."""
    running = Wye(short_dir / "shared", registry=registry, WYE_METRICS_TOKEN_FILE=f"{short_dir}/metrics/token")
    yield running
    assert running.stop() == 0


@pytest.fixture
def start(registry: str, short_dir: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Wye]]:
    """Starts a Wye of the test's own, on a state directory that a second start takes up again."""
    started: list[Wye] = []
    state_dir = Path(tempfile.mkdtemp(dir=short_dir))

    def begin(*arguments: str, **environment: str) -> Wye:
        started.append(Wye(state_dir, *arguments, registry=registry, **environment))
        return started[-1]

    yield begin
    for running in reversed(started):  # the latest first: it may run on the state of one that was killed
        running.stop()
