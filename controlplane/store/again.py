"""What has to be read or shown, though the database is away just now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from controlplane.said import WAITING
from controlplane.store.endpoints import Endpoints
from controlplane.store.errors import StoreUnavailableError

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Seconds between two tries.
PAUSE = 1.0


async def insist(call: Callable[[], T]) -> T:
    """What `call` returns, on a thread, as soon as the database answers; the log says whom it waits for."""
    complained = False
    while True:
        try:
            return await asyncio.to_thread(call)
        except StoreUnavailableError as error:
            if not complained:
                _log.warning("%s%s", WAITING, error)
            complained = True
        await asyncio.sleep(PAUSE)


async def resolve_doubts(endpoints: Endpoints) -> None:
    """Show what has become of writes whose outcome is unknown, until cancelled."""
    while True:
        await asyncio.sleep(PAUSE)
        if endpoints.in_doubt:
            await insist(endpoints.resolve)
