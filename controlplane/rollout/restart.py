"""When a replica that ended by itself is started again, and when that is pointless. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controlplane.domain import Phase, Replica

#: Seconds that a replica has to serve for its former failures to be forgotten.
STEADY = 60.0
#: Failures in a row of a replica that has never served, after which its update has failed.
ATTEMPTS = 3
FIRST_DELAY = 0.5
LONGEST_DELAY = 60.0
#: Failures in a row that are remembered; the wait does not get longer after so many.
_REMEMBERED = 20


@dataclass(frozen=True, slots=True)
class Crashes:
    """How a replica has failed since it last served steadily: when (monotonic seconds), and its last words."""

    times: tuple[float, ...] = ()
    last_words: str = ""
    #: Since when it serves; None while it does not.
    served_since: float | None = None

    def then(self, before: Replica | None, replica: Replica, now: float) -> Crashes:
        """The same after the replica was `before` and is now as it is."""
        if replica.phase is Phase.READY:
            return replace(self, served_since=now) if self.served_since is None else self
        was_steady = self.served_since is not None and self.served_since <= now - STEADY
        former = Crashes() if was_steady else replace(self, served_since=None)
        another = before is None or (before.phase, before.attempt) != (replica.phase, replica.attempt)
        # One that slept had no process: its host has ended, and not it.
        with_its_host = before is not None and before.phase is Phase.ASLEEP and not replica.permanent
        if replica.phase is not Phase.FAILED or not another or with_its_host:
            return former
        return Crashes((*former.times, now)[-_REMEMBERED:], replica.message)


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again at this time (monotonic seconds)."""

    at: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Starting it again would only fail the same way."""


def verdict(failures: tuple[float, ...], *, permanent: bool, serving: bool, now: float) -> Again | GiveUp:
    """What to do about a failed replica, given its failures in a row (monotonic seconds, oldest first).

    A replica of an active config (`serving`) is never given up: the model did load once, and whatever is in its way
    may pass. The first failure is followed by a start at once, the next ones by longer and longer waits.
    """
    if not serving and (permanent or len(failures) >= ATTEMPTS):
        return GiveUp()
    if len(failures) <= 1 and not permanent:
        return Again(now)
    wait = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** max(0, len(failures) - 2))
    return Again(max(failures, default=now) + wait)
