"""What is sent when, and to which of the targets. Values in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Closed:
    """So many clients that each wait for an answer before they ask again: how much a server can do.

    A server that stalls is asked less meanwhile, so its latencies look better than those that users would have had.
    """

    connections: int


@dataclass(frozen=True, slots=True)
class Open:
    """Requests that come when they come, as those of many users do, whether earlier ones are answered or not.

    Each one's latency counts from the moment it was due, so that those which had to wait because the server stalled say so
    (else what is measured omits, in coordination with the server, just the moments when it was slow).
    """

    #: Requests a second.
    rate: float
    #: Connections at a time; a request that finds all of them busy waits for one.
    connections: int


Mode = Closed | Open


class Supply(Protocol):
    """The requests of one test; all times are nanoseconds from its beginning."""

    def take(self, now: int) -> int | None:
        """When the next request was due, which is thereby taken; None when none is due yet."""

    def waiting(self, now: int) -> int:
        """How many are due and not taken."""

    def next_due(self) -> int | None:
        """When the next one is due; None when that needs no waiting for, or there will be none."""

    def over(self, now: int) -> bool:
        """True when there will be none any more."""


class Unlimited:
    """The requests of a closed test: always one more, until its time is over."""

    def __init__(self, seconds: float) -> None:
        self._end = int(seconds * 1e9)

    def take(self, now: int) -> int | None:
        """Now."""
        return now if now < self._end else None

    def waiting(self, now: int) -> int:
        """More than there can be connections."""
        return 0 if self.over(now) else 1 << 30

    def next_due(self) -> None:
        """Nothing to wait for."""
        return

    def over(self, now: int) -> bool:
        """When its time is over."""
        return now >= self._end


class Timed:
    """The requests of an open test, evenly spaced."""

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate = rate
        self._all = max(1, int(seconds * rate))
        self._taken = 0

    def take(self, now: int) -> int | None:
        """The first that is due."""
        if self._taken < self._all and (due := self._due(self._taken)) <= now:
            self._taken += 1
            return due
        return None

    def waiting(self, now: int) -> int:
        """Those whose time has come."""
        return min(self._all, int(now * self._rate / 1e9) + 1) - self._taken

    def next_due(self) -> int | None:
        """The time of the first that is not taken."""
        return self._due(self._taken) if self._taken < self._all else None

    def over(self, now: int) -> bool:  # noqa: ARG002 - it is the number that ends it
        """When all are taken."""
        return self._taken == self._all

    def _due(self, number: int) -> int:
        return int(number * 1e9 / self._rate)


def supply(mode: Mode, seconds: float) -> Supply:
    """The requests of a test of so many seconds."""
    return Unlimited(seconds) if isinstance(mode, Closed) else Timed(mode.rate, seconds)


def target(number: int, targets: int) -> int:
    """Which of the targets request `number` goes to.

    Two take turns in the order of Thue and Morse (A B B A B A A B …): in every stretch both come equally often, and neither
    comes always first or always after the other, so that nothing that rises, falls or repeats favours one.
    """
    return number.bit_count() % 2 if targets == 2 else number % targets
