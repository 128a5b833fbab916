"""How many replicas of an entity its machine has room for. Pure.

Replicas that run are never given up for lack of room: what counts is whether there is any for one more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from controlplane.domain import Deployment, Machine

#: The part of the machine's memory that is left for everything else: Envoy, the control plane, the kernel's caches.
_RESERVE = 0.1

#: Bytes that a replica is taken to need before one of its entity has been measured.
_UNKNOWN = 128 * 1024**2

_MB = 1024**2

#: Seconds after which memory that was claimed is taken, and seen in what is free.
_CLAIM = 30.0
#: … and after which who claimed it has either been measured or is gone.
_FORGOTTEN = 3600.0


@dataclass(frozen=True, slots=True)
class Room:
    """So many replicas an entity may have, and why no more."""

    most: int
    why: str


class Claims:
    """Memory that entities have been granted and that no measurement shows yet, so that it is not granted twice.

    To claim and to ask takes no longer with ten thousand entities than with one.
    """

    def __init__(self) -> None:
        #: What each has claimed and when, oldest first; long enough not to take the same claim for a new one.
        self._claims: OrderedDict[Deployment, tuple[int, float]] = OrderedDict()
        #: Those of them that are not seen in what is free yet, oldest first, and their sum.
        self._unseen: OrderedDict[Deployment, int] = OrderedDict()
        self._sum = 0

    def claim(self, where: Deployment, replicas: int, machine: Machine, running: Collection[str], now: float) -> None:
        """The entity is to have so many replicas; those that are measured need nothing. Calls come in the order of `now`."""
        measured = _measured(machine, running)
        need = max(0, replicas - len(measured)) * max(measured, default=_UNKNOWN)
        if need == self._claims.get(where, (0, 0.0))[0]:
            return
        self._claims.pop(where, None)
        self._sum -= self._unseen.pop(where, 0)
        if need:
            self._claims[where] = (need, now)
            self._unseen[where] = need
            self._sum += need

    def of_others(self, where: Deployment, now: float) -> int:
        """Bytes that others have claimed lately."""
        while self._unseen and now - self._claims[next(iter(self._unseen))][1] >= _CLAIM:
            self._sum -= self._unseen.popitem(last=False)[1]
        while self._claims and now - next(iter(self._claims.values()))[1] >= _FORGOTTEN:
            self._claims.popitem(last=False)
        return self._sum - self._unseen.get(where, 0)


def room(machine: Machine, running: Collection[str], per_processor: int, claimed: int = 0) -> Room:
    """The room for an entity of which these replicas have a process; at least for one, which will say what it lacks.

    `per_processor`: replicas of one entity for each processor, 0 for any number. `claimed`: bytes that others will take.
    """
    measured = _measured(machine, running)
    each = max(measured, default=_UNKNOWN)
    free = max(0.0, machine.available - claimed - _RESERVE * machine.memory)
    # Those that are not measured yet were started after the free memory was, and take their part of it.
    by_memory = max(len(running), len(measured) + int(free // each))
    by_processors = machine.processors * per_processor
    if per_processor and by_processors <= by_memory:
        why = f"its {machine.processors} processors are for {by_processors} of an entity (WYE_REPLICAS_PER_PROCESSOR)"
        return Room(max(1, by_processors), why)
    why = (
        f"{machine.available / _MB:,.0f} MB of its memory are free, of which {_RESERVE * machine.memory / _MB:,.0f} MB stay so, "
        + (f"replicas of others that are starting get {claimed / _MB:,.0f} MB, " if claimed else "")
        + f"and a replica takes {each / _MB:,.0f} MB"
    )
    return Room(max(1, by_memory), why)


def _measured(machine: Machine, running: Collection[str]) -> list[int]:
    """What they take, of those of which that is known; nothing at all is what a process takes that has ended."""
    return [taken for replica in running if (taken := machine.taken.get(replica, 0))]
