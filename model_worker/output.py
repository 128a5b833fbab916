"""How a forked process speaks: what it prints goes to its log, what it reports to its host."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
from typing import TYPE_CHECKING, TextIO

from model_worker.task import Report

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def take_output(log_fd: int) -> None:
    """Let everything that this process prints go to its log, line by line."""
    for descriptor in (1, 2):
        os.dup2(log_fd, descriptor)
    os.close(log_fd)
    sys.stdout = printer(1)
    sys.stderr = printer(2)


class _Paper(io.FileIO):
    """Takes whatever is printed, even where there is no room for it: a full disk is no fault of whoever asked the model."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def printer(descriptor: int) -> TextIO:
    """A text file on a descriptor that stays open, which is written line by line and never fails."""
    paper = io.BufferedWriter(_Paper(descriptor, "w", closefd=False))
    return io.TextIOWrapper(paper, errors="replace", line_buffering=True)


def flush() -> None:
    """Leave nothing unwritten."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()


def report(channel: socket.socket, what: Report) -> None:
    """Tell the host, if there is one."""
    with contextlib.suppress(OSError):  # a dead host is the watcher's business
        channel.sendall(what.to_line())
