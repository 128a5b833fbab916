"""How a replica's process keeps to what it may take: its priority, its processors, its place in the queue of victims."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from model_worker.task import Task

#: The kernel ends a replica rather than the host, Envoy or the control plane when the machine has no memory left.
_KILL_ME_FIRST = "500"


def confine(task: Task) -> None:
    """Confine this process, as far as the system lets it."""
    with contextlib.suppress(OSError):
        os.nice(task.nice)
    if task.processors and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, task.processors)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_KILL_ME_FIRST)
