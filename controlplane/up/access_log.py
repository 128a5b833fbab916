"""Keeps the access log from filling the disk: when it is large it is put aside, and what was put aside before goes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger(__name__)

#: Seconds between two looks at the file's size; at full load it grows by some 5 MB a second.
LOOK = 5.0


async def keep_small(log: Path, most: int, reopen: Callable[[], None], look: float = LOOK) -> None:
    """For ever: a file of more than `most` bytes becomes `<name>.1`, and `reopen` tells its writer to begin another."""
    complained = False
    while True:
        await asyncio.sleep(look)
        try:
            put_aside(log, most, reopen)
            complained = False
        except OSError as error:
            if not complained:
                _log.warning("%s cannot be kept small: %s", log, error)
            complained = True


def put_aside(log: Path, most: int, reopen: Callable[[], None]) -> bool:
    """One look; whether the file was too large."""
    try:
        if log.stat().st_size <= most:
            return False
    except FileNotFoundError:
        return False
    os.replace(log, log.with_name(f"{log.name}.1"))
    reopen()
    return True
