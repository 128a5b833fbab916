"""What there is of a machine, and what its replicas take of it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import psutil

#: Replicas that are measured at a time: for each the kernel walks over its pages, a millisecond and more.
_AT_A_TIME = 20


class Measured:
    """Processors and memory of this machine, and the memory of each replica, as they were last looked at."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._turn: list[str] = []
        self._memory = psutil.virtual_memory()

    def look(self, replicas: Mapping[str, int]) -> None:
        """Measure the machine and some of the replicas (id → process id); all have their turn."""
        self._memory = psutil.virtual_memory()
        self._taken = {replica: taken for replica, taken in self._taken.items() if replica in replicas}
        # Those never measured first: whoever asks for room wants to know what one takes.
        self._turn = [replica for replica in self._turn if replica in replicas] or sorted(
            replicas, key=lambda replica: replica in self._taken
        )
        now, self._turn = self._turn[:_AT_A_TIME], self._turn[_AT_A_TIME:]
        for replica in now:
            try:
                full = psutil.Process(replicas[replica]).memory_full_info()
            except psutil.Error:
                continue
            taken = int(getattr(full, "pss", 0) or full.uss)
            if taken:  # a process that has ended has given everything back, and may still be there
                self._taken[replica] = taken

    def to_json(self) -> dict[str, object]:
        """All of it, as control planes are told."""
        return {
            "type": "machine",
            "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            "memory": self._memory.total,
            "available": self._memory.available,
            "taken": dict(self._taken),
        }
