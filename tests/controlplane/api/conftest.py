"""The API under test, as a fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.store import Store
from tests.controlplane.api.harness import Api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API without endpoints."""
    with Store(f"sqlite:///{tmp_path}/wye.db") as store:
        yield Api(store)
