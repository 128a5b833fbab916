"""Options and fixtures that every test may use."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option, for the golden files."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what the code gives now")
