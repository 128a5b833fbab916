"""Files that hold secrets, and files that must never be seen half written."""

from __future__ import annotations

import os
import secrets
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
