"""Whether a replica is alive: what it shows of itself in memory that its host can see, and what follows from that.

Nothing has to be sent, so a replica that can say nothing any more has said when it last could, and since when it is at work.
`verdict` is pure.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import TypeAlias

#: What the numbers of a pulse are: when the loop of the connections last turned, and since when requests are in hand
#: without one of them being answered, 0 without any. Monotonic seconds, which all processes of a machine share.
BEAT, AT_WORK = 0, 1
_NUMBERS = 2

#: Seconds between two beats.
INTERVAL = 1.0

Pulse: TypeAlias = "memoryview[float] | list[float]"


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a replica may seem dead."""

    #: It serves and has nothing to do, or its process is stopped.
    silent: float = 15.0
    #: It has requests in hand; after this nobody waits for an answer, and it is given `silent` besides.
    working: float = 297.0
    #: It loads its model.
    loading: float = 1200.0


def make() -> int:
    """A descriptor of memory for a new pulse."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pulse")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _NUMBERS * 8)
    return descriptor


def at(descriptor: int) -> Pulse:
    """The numbers in it."""
    return memoryview(mmap.mmap(descriptor, _NUMBERS * 8)).cast("d")


def verdict(pulse: Pulse, now: float, since: float, patience: Patience, *, stopped: bool) -> str:
    """Why a replica must be taken for dead, "" when it need not be.

    `since`: it cannot have beaten before (the start of its process). `stopped`: the kernel does not let it run. A model that
    is slow, or that holds the interpreter's lock for minutes, is at work and not dead: what it may take is the time that
    its callers wait.
    """
    beat, at_work = pulse[BEAT], pulse[AT_WORK]
    silent = now - max(beat, since)
    if stopped and silent > patience.silent:
        return f"its process was stopped for {silent:.0f} s"
    if beat == 0:
        if silent > patience.loading:
            return f"it had not loaded its model after {silent:.0f} s"
    elif at_work:
        if now - max(at_work, since) > patience.working + patience.silent:
            return f"it answered none of the requests it had in hand for {now - at_work:.0f} s"
    elif silent > patience.silent:
        return f"it did not respond for {silent:.0f} s"
    return ""
