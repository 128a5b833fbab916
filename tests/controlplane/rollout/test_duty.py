"""Following the lease; with a real database it is tested in tests/e2e/test_high_availability.py."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from controlplane.rollout import duty
from controlplane.rollout.duty import Duty
from controlplane.store import Lease, Peer, StoreUnavailableError, View

ME = Peer("a", "unix:/a/xds", "unix:/a/api", "k")


class Beats:
    """A lease that answers as it is told to."""

    def __init__(self, *answers: Exception | int | None) -> None:
        self.epoch: int | None = None
        self._answers = list(answers)

    def beat(self, _above: int) -> View:
        """The next answer; the last one again and again."""
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, Exception):
            raise found
        self.epoch = found
        return View(found or 0, ME if found else None, (ME,))

    def release(self) -> None:
        """Give it up."""


def test_a_database_that_answers_nonsense_does_not_end_the_following(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its tables are gone for a moment, say: one that stood by still takes over when it can, and each trouble is told once."""
    monkeypatch.setattr(duty, "LOOK", 0.001)
    trouble = [RuntimeError("relation duty does not exist"), StoreUnavailableError("it is away")]

    async def test() -> None:
        following = Duty(cast("Lease", Beats(None, *trouble, *trouble, 1)), ME)
        async with asyncio.timeout(60):
            standing = await following.until(lambda standing: standing.here)
        assert standing.epoch == 1
        await asyncio.to_thread(following.close)

    asyncio.run(test())
    assert [each.getMessage() for each in caplog.records if each.levelname != "INFO"] == [
        "whether another control plane acts is unknown"
    ]
