"""What a forked process becomes to load a model once for many replicas: it loads it, then forks them, idle in between."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
from pathlib import Path

from model_worker import mlflow_model
from model_worker.forkserver import ForkServer, other_threads
from model_worker.output import flush, take_output
from model_worker.task import Task


def run(task_text: str, control_fd: int, log_fd: int) -> int:
    """Load the task's model and fork replicas of it until the host hangs up; the exit status of the process."""
    task = Task.from_json(task_text)
    take_output(log_fd)
    os.chdir(task.directory)
    os.environ.clear()
    os.environ.update(task.variables)
    model = mlflow_model.load(Path(task.model))
    if others := other_threads():
        # A lock that one of them holds would stay locked in every replica. The replicas will load it themselves.
        print(f"the model is not shared, for it has threads: {', '.join(others)}", file=sys.stderr)  # noqa: T201
        return 1
    gc.collect()
    gc.disable()
    gc.freeze()
    flush()
    with socket.socket(fileno=control_fd) as control, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        ForkServer(control, model).serve()
    return 0
