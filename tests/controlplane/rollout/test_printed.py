"""The logs of a failed update are kept, whatever state the worker host is in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.domain import Endpoint
from controlplane.domain.measurement import LogKind
from controlplane.rollout import lifecycle
from controlplane.rollout.printed import LastWords
from controlplane.runtimes import OutOfReachError
from controlplane.runtimes.fake import FakeRuntime
from controlplane.store import Store
from controlplane.watch import WatchedMap
from tests.controlplane.rollout.builders import NOW_MS, active, begin, specs


class Printing(FakeRuntime):
    """Replicas that have printed their own ids, on a host that may be out of reach."""

    away = False

    async def logs(self, replica_id: str, lines: int) -> str:
        """As Runtime.logs."""
        if self.away:
            raise OutOfReachError("away")
        return replica_id if replica_id.endswith("-0") else ""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store."""
    with Store(f"sqlite:///{tmp_path}/wye.db") as opened:
        yield opened


def failing() -> tuple[Endpoint, Endpoint]:
    """An endpoint whose update adds `new` to `kept`, before and after it failed."""
    attempted = begin(active(kept="1"), specs(kept="1", new="1"))
    return attempted, lifecycle.fail(attempted, [], NOW_MS)


async def keep(attempted: Endpoint, failed: Endpoint, store: Store, *, away: bool = False) -> None:
    """As LastWords.keep, on such a host."""
    runtime = Printing(WatchedMap())
    runtime.away = away
    await LastWords(runtime, store).keep(attempted, failed)


def test_the_logs_of_what_was_new_are_kept(store: Store) -> None:
    """Each line stands after its replica's id, and entities that the update took over are not its business."""
    attempted, failed = failing()
    store.insert(attempted)
    asyncio.run(keep(attempted, failed, store))
    id_ = f"{failed.id[:8]}-2-new-0"
    assert store.kept_log(failed.id, 2, "new", LogKind.OUTPUT) == f"[{id_}] {id_}"
    assert store.kept_log(failed.id, 2, "new", LogKind.BUILD) == ""
    assert store.kept_log(failed.id, 2, "kept", LogKind.OUTPUT) is None


def test_a_host_out_of_reach_keeps_no_update_from_failing(store: Store) -> None:
    """There is nothing to keep then, and nobody is told by an exception."""
    attempted, failed = failing()
    store.insert(attempted)
    asyncio.run(keep(attempted, failed, store, away=True))
    assert store.kept_log(failed.id, 2, "new", LogKind.OUTPUT) is None
