"""What a forked process becomes to fetch a model's files. It has the host's credentials, and runs no code of a model."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import traceback
from pathlib import Path

from model_worker import mlflow_model
from model_worker.full_disk import says_full
from model_worker.last_words import last_words
from model_worker.output import flush, report, take_output
from model_worker.task import MODEL, FetchTask, Report

#: Bytes; a disk with less is full.
_ROOM = 1 << 16


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
        words = last_words(error)
        if _left_no_room(task.directory) and not says_full(words):
            words = f"{os.strerror(errno.ENOSPC)}: {words}"
        report(channel, Report(failure=words, permanent=not (says_full(words) or _may_pass(error))))
        return 1
    flush()
    return 0


def _left_no_room(directory: str) -> bool:
    """Whether what was fetched has filled the disk: MLflow keeps some errors to itself."""
    return shutil.disk_usage(directory).free < _ROOM


def _may_pass(error: BaseException | None) -> bool:
    """True when it began with a connection, a disk or memory that was not to be had, as some other time it may be."""
    while error is not None:
        if isinstance(error, OSError | MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False
