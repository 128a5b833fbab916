"""What a forked process becomes to fetch a model's files. It has the host's credentials, and runs no code of a model."""

from __future__ import annotations

import os
import socket
import traceback
from pathlib import Path

from model_worker import mlflow_model
from model_worker.last_words import last_words
from model_worker.output import flush, report, take_output
from model_worker.task import MODEL, FetchTask, Report


def run(task_text: str, log_fd: int, channel_fd: int) -> int:
    """Fetch it; the exit status of the process."""
    task = FetchTask.from_json(task_text)
    take_output(log_fd)
    channel = socket.socket(fileno=channel_fd)
    os.environ.clear()
    os.environ.update(task.variables)
    os.chdir(task.directory)
    try:
        arriving = Path(task.directory, "arriving")
        arriving.mkdir()
        os.rename(mlflow_model.fetch(task.artifact_uri, arriving), Path(task.directory, MODEL))
    except BaseException as error:  # noqa: BLE001 - an artifact store's client may raise anything
        traceback.print_exc()
        report(channel, Report(failure=last_words(error), permanent=not _may_pass(error)))
        return 1
    flush()
    return 0


def _may_pass(error: BaseException | None) -> bool:
    """True when it began with a connection, a disk or memory that was not to be had, as some other time it may be."""
    while error is not None:
        if isinstance(error, OSError | MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False
