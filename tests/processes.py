"""Looks at other processes that any moment may be the last of: between two questions about one, it may end."""

from __future__ import annotations

import psutil


def alive(process: psutil.Process) -> bool:
    """True for a process that runs; one that ended counts as gone though nobody has collected its exit status yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> str:
    """How a process was started; "" when it has ended or is none of ours."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """All that a process has started, and they, as far as they run."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
