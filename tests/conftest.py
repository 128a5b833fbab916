"""Options and fixtures that every test may use."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option, for the golden files."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what the code gives now")


class ByModule(LoadScopeScheduling):
    """Deals out the tests of a running Wye module by module, as each starts what its tests share; others one by one."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0] if nodeid.startswith("tests/e2e/") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByModule:
    """Ours with any `--dist`; xdist's own groups (3.8) go unseen by pytest 9.2, which keeps node ids elsewhere."""
    return ByModule(config, log)
