"""When a replica that ended by itself is started again, and when that is pointless. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds after which a failure no longer counts.
WINDOW = 60.0
#: Failures of a replica that has never served, within the window, after which its update has failed.
ATTEMPTS = 3
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again at this time (monotonic seconds)."""

    at: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Starting it again would only fail the same way."""


def verdict(failures: tuple[float, ...], *, permanent: bool, serving: bool, now: float) -> Again | GiveUp:
    """What to do about a failed replica, given the times of its failures so far (monotonic seconds, oldest first).

    A replica of an active config (`serving`) is never given up: the model did load once, and whatever is in its way
    may pass. The first failure is followed by a start at once, the next ones by longer and longer waits.
    """
    recent = [at for at in failures if at > now - WINDOW]
    if not serving and (permanent or len(recent) >= ATTEMPTS):
        return GiveUp()
    if len(recent) <= 1 and not permanent:
        return Again(now)
    wait = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** max(0, len(recent) - 2))
    return Again(max(recent, default=now) + wait)
