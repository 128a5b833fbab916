"""A short run of `make chaos`: nothing that is killed, cut or changed loses a request that was not in a killed process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks.chaos.ordeal import chaos
from tests.e2e.wye import EXAMPLE


@pytest.mark.timeout(300)
def test_chaos_loses_no_request(registry: str, short_dir: Path) -> None:
    """What happens is random, but the same each time; how it falls together with the load is not."""
    folder = short_dir / "chaos"
    folder.mkdir()
    said: list[str] = []
    body = json.dumps(EXAMPLE).encode()
    found = asyncio.run(chaos(folder, registry, body, seed=7, seconds=6, say=said.append, gaps=(0.1, 0.7), least=6))
    assert found.unexcused == [], "\n".join(said)
    assert found.broken == [], "\n".join(said)
    assert all(found.answered[name] for name in ("plain", "split", "large"))
    assert len(found.events) > 5
