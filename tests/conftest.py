"""Options and fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.postgresql import PostgreSQL
from tests.postgresql import server as postgresql_server


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where there are several processes, what is dealt out one by one comes last, so that none of them ends much later."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.nodeid.startswith(SHARING))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A private PostgreSQL server that tests share, each with databases of its own."""
    with postgresql_server() as running:
        running.start()
        yield running
