"""One composed system for all checks, and a table of what was measured at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.compose.composed import Composed
from tests.compose.engine import NoEngineError, engine

_FIGURES = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture(scope="session")
def wye(pytestconfig: pytest.Config) -> Iterator[Composed]:
    """Built, started and healthy; nothing of it is left afterwards."""
    try:
        with engine() as compose:
            composed = Composed(compose)
            pytestconfig.stash[_FIGURES] = composed.figures
            began = time.monotonic()
            try:
                composed.provide_bases()
                said = f"stand-ins made for {', '.join(composed.made)}" if composed.made else "official ones"
                composed.measured(f"base images ({said})", began)
                building = time.monotonic()
                composed.compose("build", "--quiet", timeout=900)
                composed.measured("images built", building)
                starting = time.monotonic()
                composed.up()
                composed.measured("docker compose up --wait, the demo endpoint answering", starting)
                composed.measured("all of it, from no images", began)
                yield composed
            finally:
                composed.remove()
    except NoEngineError as error:
        pytest.skip(f"no container engine: {error}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was measured; other programs on the machine are part of it."""
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("measured")
        for what, figure in figures:
            terminalreporter.write_line(f"{what}: {figure}")
