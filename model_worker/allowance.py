"""What one replica may take of the machine, by the size of its workload, and how it is held to that."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

#: The sizes that a served entity may have; one that says none is the first.
SIZES = ("Small", "Medium", "Large")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a replica of one size may take."""

    size: str = SIZES[0]
    #: Bytes that are its own, with its share of those that it has in common with others; 0 is no limit.
    memory: int = 0
    #: Processors that it may run on; 0 is all.
    cpus: int = 0


def allowances(megabytes: tuple[int, ...], cpus: tuple[int, ...]) -> dict[str, Allowance]:
    """The allowance of each size, from one value for each."""
    return {
        size: Allowance(size, memory * 1024**2, count)
        for size, memory, count in zip(SIZES, megabytes, cpus, strict=True)
    }


def by_size(text: str) -> tuple[int, ...]:
    """`4096,8192,16384`, or one number for all sizes.

    Raises ValueError.
    """
    values = tuple(int(part) for part in text.split(","))
    if len(values) == 1:
        values *= len(SIZES)
    if len(values) != len(SIZES) or min(values) < 0:
        raise ValueError(f"{text!r} is not one number, nor one for each of {', '.join(SIZES)}")
    return values


class Processors:
    """Shares this machine's processors out, so that replicas which may use few of them use different ones."""

    def __init__(self) -> None:
        self._taken = Counter(dict.fromkeys(_own_processors(), 0))

    @contextlib.contextmanager
    def some(self, count: int) -> Iterator[tuple[int, ...]]:
        """So many processors, the least taken ones, until the context ends; none means all."""
        if not 0 < count < len(self._taken):
            yield ()
            return
        chosen = tuple(sorted(self._taken, key=lambda number: (self._taken[number], number))[:count])
        self._taken.update(chosen)
        try:
            yield chosen
        finally:
            self._taken.subtract(chosen)


def excess(process: psutil.Process, limit: int) -> int | None:
    """Bytes that a process uses, if that is more than its limit."""
    try:
        # What is resident is read at once and never less than its share, which takes the kernel a walk over all pages.
        if process.memory_info().rss <= limit:
            return None
        full = process.memory_full_info()
    except psutil.Error:
        return None
    used = int(getattr(full, "pss", 0) or full.uss)
    return used if used > limit else None


def megabytes(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1024**2:,.0f} MB"


def _own_processors() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
