"""How many files and sockets a process may have open."""

from __future__ import annotations

import contextlib
import resource


def raise_limit() -> None:
    """Let this process, and those that it starts, have as many open as the system allows it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # macOS says that there is no limit, and has one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
