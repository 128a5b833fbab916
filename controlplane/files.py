"""Files that hold secrets, files that must never be seen half written, and how many may be open."""

from __future__ import annotations

import os
import resource
import secrets
from contextlib import suppress
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody but its owner can read, whole or not at all."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")  # another program may be at it as well
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def make_private(path: Path, text: str) -> None:
    """The same for a file that several programs may want to make: the first one's stays."""
    own = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    write_private(own, text)
    try:
        os.link(own, path)
    except FileExistsError:
        pass
    finally:
        own.unlink()


def open_many() -> None:
    """Let this process, and what it starts, have as many files and connections open as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says that there is no limit, and takes no such thing
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
