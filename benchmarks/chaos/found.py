"""What a run has done to Wye and seen of it, and which failures that excuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Event:
    """Something that was done to Wye, in seconds since the load began."""

    at: float
    kind: str
    #: To which endpoint or replica.
    which: str
    #: The endpoint whose replica was killed, "" for everything else …
    victim: str = ""
    #: … and when its process had let go of its connections: the kernel takes a moment.
    gone: float = 0.0
    #: Endpoints with a replica that was just being replaced when the worker host was killed: its socket goes with the host.
    bereft: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.which}".strip()


@dataclass
class Failure:
    """A request that was not answered with 200."""

    endpoint: str
    began: float
    ended: float
    words: str

    def excuse(self, events: list[Event]) -> Event | None:
        """The killing of a replica of its endpoint, or of the host in whose socket it waited, while it was under way."""
        return next((each for each in events if self._was_in(each)), None)

    def _was_in(self, event: Event) -> bool:
        if event.victim == self.endpoint:
            return self.began <= event.gone and self.ended >= event.at
        return self.endpoint in event.bereft and self.began <= event.at <= self.ended

    def line(self, events: list[Event]) -> str:
        """For people: when, what, and what had just happened."""
        excuse = self.excuse(events)
        before = [each for each in events if each.at <= self.ended]
        last = f"{before[-1]} {self.ended - before[-1].at:.2f} s before" if before else "before anything happened"
        cause = f"UNEXCUSED; {last}"
        if excuse:
            where = "in the process" if excuse.victim else "in the socket of a replica without a process, and its host"
            cause = f"{where} that was killed: {excuse}"
        return f"{self.began:.3f} s to {self.ended:.3f} s, {self.endpoint}: {self.words} ({cause})"


@dataclass
class Found:
    """What a run has seen."""

    events: list[Event] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    #: What was promised and not kept, besides requests: updates that failed, programs that did not come back.
    broken: list[str] = field(default_factory=list)

    @property
    def excused(self) -> list[Failure]:
        return [each for each in self.failures if each.excuse(self.events)]

    @property
    def unexcused(self) -> list[Failure]:
        return [each for each in self.failures if not each.excuse(self.events)]
