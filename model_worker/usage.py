"""What this process takes of its machine, as Prometheus text, under the names that Prometheus' own clients use."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path


class Usage:
    """The usage of a process that has served since `began`, seconds since the epoch."""

    def __init__(self, began: float) -> None:
        self._began = began

    def text(self) -> str:
        """It at this moment."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        times = os.times()
        for name, kind, meaning, value in (
            ("process_cpu_seconds_total", "counter", "Processor time.", times.user + times.system),
            ("process_start_time_seconds", "gauge", "When it began to serve, since the epoch.", self._began),
            ("process_resident_memory_bytes", "gauge", "Memory, shared pages included.", _resident()),
            ("machine_memory_bytes", "gauge", "Memory of the machine.", _pages(os.sysconf("SC_PHYS_PAGES"))),
        ):
            yield f"# HELP {name} {meaning}"
            yield f"# TYPE {name} {kind}"
            yield f"{name} {value:.3f}"


def _resident() -> float:
    try:
        return _pages(int(Path("/proc/self/statm").read_text().split()[1]))
    except OSError:  # no Linux: the most that it ever was
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _pages(count: int) -> float:
    return float(count * os.sysconf("SC_PAGE_SIZE"))
