"""How a replica's process keeps to what it may take: its priority, its processors, its place in the queue of victims."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from model_worker.task import Task

#: The kernel ends a replica rather than the host, Envoy or the control plane when the machine has no memory left.
_KILL_ME_FIRST = "500"


def use_threads(variables: Mapping[str, str]) -> None:
    """Let numerical libraries use as many threads as the entity's variables say, here and in this thread.

    The fork server has loaded them with one, which is the default; what the variables say later they do not look at.
    OpenMP's number is each thread's own, so every thread that predicts has to call this.
    """
    wanted = {"openmp": variables.get("OMP_NUM_THREADS", ""), "blas": variables.get("OPENBLAS_NUM_THREADS", "")}
    limits = {library: int(count) for library, count in wanted.items() if count.isdigit() and count != "1"}
    if limits:
        with contextlib.suppress(ImportError):  # it comes with scikit-learn; without it there is little to set
            from threadpoolctl import threadpool_limits  # noqa: PLC0415

            threadpool_limits(limits)


def confine(task: Task) -> None:
    """Confine this process, as far as the system lets it."""
    with contextlib.suppress(OSError):
        os.nice(task.nice)
    if task.processors and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, task.processors)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_KILL_ME_FIRST)
