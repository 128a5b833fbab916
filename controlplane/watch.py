"""Latest-value cells that join the loops: keyed values with a change counter, safe to set from any thread.

A cell never queues: setting an equal value is a no-op, a burst of sets coalesces, and a reader that comes late sees the
present state. Nothing here may know what the values mean.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class WatchedMap(Generic[K, V]):
    """A map whose changed keys each subscriber collects at its own pace.

    One writer per key; any thread may write or read; subscribers wait on their own asyncio loop.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[K, V] = {}
        self._changes = 0
        self._subscriptions: list[Subscription[K]] = []

    @property
    def changes(self) -> int:
        """How many sets and deletes have changed anything since the map was made."""
        return self._changes

    def get(self, key: K) -> V | None:
        """The present value of `key`, or None."""
        return self._values.get(key)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def snapshot(self) -> dict[K, V]:
        """A copy of the whole map as it is now."""
        with self._lock:
            return dict(self._values)

    def set(self, key: K, value: V) -> bool:
        """Store `value`; False, and nobody is woken, when an equal value is there already."""
        with self._lock:
            if self._values.get(key) == value and key in self._values:
                return False
            self._values[key] = value
            self._changed({key})
        return True

    def delete(self, key: K) -> bool:
        """Remove `key`; False when it was not there."""
        with self._lock:
            if key not in self._values:
                return False
            del self._values[key]
            self._changed({key})
        return True

    def replace(self, values: Mapping[K, V]) -> None:
        """Make the map equal to `values`, waking subscribers for the keys that differ."""
        with self._lock:
            old = self._values
            self._values = dict(values)
            differing = {key for key in old.keys() | values.keys() if old.get(key) != values.get(key)}
            if differing:
                self._changed(differing)

    def subscribe(self) -> Subscription[K]:
        """A subscription on the running asyncio loop, in which every present key counts as changed."""
        subscription: Subscription[K] = Subscription(asyncio.get_running_loop(), self._unsubscribe)
        with self._lock:
            self._subscriptions.append(subscription)
            if self._values:
                subscription.add(self._values.keys())
        return subscription

    def _changed(self, keys: Iterable[K]) -> None:
        self._changes += 1
        for subscription in self._subscriptions:
            subscription.add(keys)

    def _unsubscribe(self, subscription: Subscription[K]) -> None:
        with self._lock:
            self._subscriptions.remove(subscription)


class Subscription(Generic[K]):
    """The keys that changed since they were last taken, and a way to wait for the next one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, close: Callable[[Subscription[K]], None]) -> None:
        self._loop = loop
        self._close = close
        self._keys: set[K] = set()
        self._lock = threading.Lock()
        self._event = asyncio.Event()

    def add(self, keys: Iterable[K]) -> None:
        """Note that `keys` changed; called by the map, on any thread."""
        with self._lock:
            was_empty = not self._keys
            self._keys.update(keys)
        if was_empty and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    def take(self) -> set[K]:
        """The keys that changed since the last take, which are forgotten by this."""
        with self._lock:
            keys, self._keys = self._keys, set()
            self._event.clear()
        return keys

    async def wait(self) -> None:
        """Return as soon as there is something to take."""
        await self._event.wait()

    def close(self) -> None:
        """Stop collecting."""
        self._close(self)
