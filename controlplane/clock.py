"""Time as a value that is passed in, so that what depends on it can be tested without waiting."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time; `FakeClock` tells the time a test sets."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, for what users see and the store keeps."""

    def monotonic(self) -> float:
        """Seconds that never go back, for intervals."""


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


class FakeClock:
    """A clock that stands still until `advance` is called."""

    def __init__(self, seconds: float = 1_000_000.0) -> None:
        self._seconds = seconds

    def now_ms(self) -> int:
        """Milliseconds since the epoch of this clock."""
        return int(self._seconds * 1000)

    def monotonic(self) -> float:
        """Seconds since the epoch of this clock."""
        return self._seconds

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._seconds += seconds
