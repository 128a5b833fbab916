"""Ends the host when it hangs, so that another follows: a dead one is noticed and succeeded, a hung one would not be."""

from __future__ import annotations

import asyncio
import faulthandler

#: Seconds between two signs of life, of a host that may be silent for long.
_INTERVAL = 1.0


async def watchdog(patience: float) -> None:
    """End this process when its loop has not turned for `patience` seconds, with what its threads are at on stderr.

    The C library's clock does it, so that code which keeps the interpreter's lock for ever is ended too. A process that the
    kernel does not let run is for its parent to end.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(patience, exit=True)
            await asyncio.sleep(min(_INTERVAL, patience / 4))
    finally:
        faulthandler.cancel_dump_traceback_later()
