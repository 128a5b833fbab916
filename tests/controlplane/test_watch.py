"""Cells: equal sets are nothing, bursts coalesce, late readers see the present."""

from __future__ import annotations

import asyncio
import threading

from controlplane.watch import WatchedMap


def test_an_equal_value_is_no_change() -> None:
    """Setting what is there already wakes nobody."""

    async def test() -> None:
        cell = WatchedMap[str, int]()
        assert cell.set("a", 1)
        seen = cell.subscribe()
        seen.take()
        assert not cell.set("a", 1)
        assert (seen.take(), cell.changes) == (set(), 1)

    asyncio.run(test())


def test_a_late_subscriber_sees_all_that_is_there() -> None:
    """Every present key counts as changed for a new subscription."""

    async def test() -> None:
        cell = WatchedMap[str, int]()
        cell.replace({"a": 1, "b": 2})
        assert cell.subscribe().take() == {"a", "b"}

    asyncio.run(test())


def test_a_burst_is_taken_at_once() -> None:
    """Any number of changes between two takes is one set of keys, deletions included."""

    async def test() -> None:
        cell = WatchedMap[str, int]()
        seen = cell.subscribe()
        for number in range(1000):
            cell.set("a", number)
        cell.set("b", 1)
        cell.delete("b")
        await seen.wait()
        assert seen.take() == {"a", "b"}
        assert (cell.get("a"), cell.get("b"), len(cell)) == (999, None, 1)

    asyncio.run(test())


def test_replacing_wakes_only_for_what_differs() -> None:
    """A whole new map is compared with the old one key by key."""

    async def test() -> None:
        cell = WatchedMap[str, int]()
        cell.replace({"same": 1, "other": 1, "gone": 1})
        seen = cell.subscribe()
        seen.take()
        cell.replace({"same": 1, "other": 2, "new": 1})
        assert seen.take() == {"other", "gone", "new"}
        before = cell.changes
        cell.replace(cell.snapshot())
        assert cell.changes == before

    asyncio.run(test())


def test_a_change_from_another_thread_wakes_the_loop() -> None:
    """Threads may set; the subscriber's loop is woken safely, and none of their changes is missed."""

    async def test() -> None:
        cell = WatchedMap[int, int]()
        seen = cell.subscribe()
        threads = [
            threading.Thread(target=lambda start=start: [cell.set(n, n) for n in range(start, start + 500)])
            for start in (0, 500)
        ]
        for thread in threads:
            thread.start()
        found: set[int] = set()
        async with asyncio.timeout(60):
            while len(found) < 1000:
                await seen.wait()
                found |= seen.take()
        for thread in threads:
            thread.join()
        assert found == set(range(1000))

    asyncio.run(test())


def test_a_closed_subscription_hears_nothing_more() -> None:
    """After close, changes are no longer collected for it."""

    async def test() -> None:
        cell = WatchedMap[str, int]()
        seen = cell.subscribe()
        seen.close()
        cell.set("a", 1)
        assert seen.take() == set()

    asyncio.run(test())
