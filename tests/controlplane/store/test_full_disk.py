"""A disk that is full: what was stored stays, what is new is refused in plain words, and with room again all is well."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controlplane.domain import Endpoint
from controlplane.rollout import lifecycle
from controlplane.store import Store, StoreUnavailableError


def named(name: str, number: int) -> Endpoint:
    """An endpoint of a kilobyte."""
    description = "much to say " * 80
    return lifecycle.create(
        endpoint_id=f"{number:032}", name=name, creator="me", now_ms=number, description=description
    )


def test_sqlite_on_a_full_disk_loses_nothing(small_disk: Path) -> None:
    """Writes fail with what is full, reads go on, a new opening finds all that was said to be stored."""
    url = f"sqlite:///{small_disk}/wye.db"
    stored: list[str] = []
    with Store(url) as store:

        def fill() -> None:
            for number in range(10_000):
                store.insert(named(f"endpoint-{number}", number))
                stored.append(f"endpoint-{number}")

        with pytest.raises(StoreUnavailableError, match="its disk is full; free some space"):
            fill()
        assert stored
        assert {endpoint.name for endpoint in store.endpoints()} == set(stored)
    with Store(url) as store:
        assert {endpoint.name for endpoint in store.endpoints()} == set(stored)
        subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
        store.insert(named("late", 10**9))
        assert store.get("late") is not None
