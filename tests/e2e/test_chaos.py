"""A short run of `make chaos`: nothing that is killed, cut or changed loses a request that was not in a killed process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks.chaos import chaos
from tests.e2e.wye import EXAMPLE


@pytest.mark.timeout(300)
def test_chaos_loses_no_request(registry: str, short_dir: Path) -> None:
    """What happens is random, but the same each time; how it falls together with the load is not."""
    folder = short_dir / "chaos"
    folder.mkdir()
    said: list[str] = []
    found = asyncio.run(chaos(folder, registry, json.dumps(EXAMPLE).encode(), seed=7, seconds=8, say=said.append))
    assert found.unexcused == [], "\n".join(said)
    assert found.broken == [], "\n".join(said)
    assert all(found.answered[name] for name in ("plain", "split", "large"))
    assert len(found.events) > 5
