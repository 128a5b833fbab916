"""How a forked process speaks: what it prints goes to its log, what it reports to its host."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

from model_worker.task import Report


def take_output(log_fd: int) -> None:
    """Let everything that this process prints go to its log, line by line."""
    for descriptor in (1, 2):
        os.dup2(log_fd, descriptor)
    os.close(log_fd)
    sys.stdout = open(1, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115 - open as long as we live
    sys.stderr = open(2, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115


def flush() -> None:
    """Leave nothing unwritten."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()


def report(channel: socket.socket, what: Report) -> None:
    """Tell the host, if there is one."""
    with contextlib.suppress(OSError):  # a dead host is the watcher's business
        channel.sendall(what.to_line())
