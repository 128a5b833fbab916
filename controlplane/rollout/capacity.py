"""How many replicas of an entity its machine has room for. Pure.

Replicas that run are never given up for lack of room: what counts is whether there is any for one more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from controlplane.domain import Machine

#: The part of the machine's memory that is left for everything else: Envoy, the control plane, the kernel's caches.
_RESERVE = 0.1

#: Bytes that a replica is taken to need before one of its entity has been measured.
_UNKNOWN = 128 * 1024**2

_MB = 1024**2


@dataclass(frozen=True, slots=True)
class Room:
    """So many replicas an entity may have, and why no more."""

    most: int
    why: str


def room(machine: Machine, running: Collection[str], per_processor: int) -> Room:
    """The room for an entity of which these replicas have a process; at least for one, which will say what it lacks.

    `per_processor`: replicas of one entity for each processor, 0 for any number.
    """
    measured = [machine.taken[replica] for replica in running if replica in machine.taken]
    each = max(measured, default=_UNKNOWN)
    free = max(0.0, machine.available - _RESERVE * machine.memory)
    # Those that are not measured yet were started after the free memory was, and take their part of it.
    by_memory = max(len(running), len(measured) + int(free // each))
    by_processors = machine.processors * per_processor
    if per_processor and by_processors <= by_memory:
        why = f"its {machine.processors} processors are for {by_processors} of an entity (WYE_REPLICAS_PER_PROCESSOR)"
        return Room(max(1, by_processors), why)
    why = (
        f"{machine.available / _MB:,.0f} MB of its memory are free, of which {_RESERVE * machine.memory / _MB:,.0f} MB stay so, "
        f"and a replica takes {each / _MB:,.0f} MB"
    )
    return Room(max(1, by_memory), why)
