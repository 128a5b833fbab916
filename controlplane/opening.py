"""Opening the store at the start, when its database may not be there yet: after a power cut nobody waits for anybody."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

from controlplane.api.server import serve as serve_api
from controlplane.domain import Address, ProblemCode
from controlplane.said import WAITING
from controlplane.settings import Settings
from controlplane.store import Store, StoreUnavailableError, StoreUnusableError

_log = logging.getLogger(__name__)

#: Seconds between two tries.
_PAUSE = 0.5


async def opened(settings: Settings, stopping: asyncio.Event) -> Store | None:
    """The store, as soon as its database answers; None when the control plane is to stop before that.

    Calls of the API are told meanwhile who is away. Raises StoreUnavailableError when it does not answer for as long as
    the settings say, and at once when waiting would not help.
    """
    try:
        return await asyncio.to_thread(Store, settings.database_url)
    except StoreUnusableError:
        raise
    except StoreUnavailableError as error:
        if settings.database_url.startswith("sqlite"):
            raise  # a file does not come back by itself
        words = str(error)
    _log.warning("%s%s", WAITING, words)
    api = serve_api(_away(words), Address.parse(settings.api_address), threads=2)
    deadline = asyncio.get_running_loop().time() + settings.database_patience
    try:
        while True:
            try:
                async with asyncio.timeout(_PAUSE):
                    await stopping.wait()
                    return None
            except TimeoutError:
                pass
            try:
                store = await asyncio.to_thread(Store, settings.database_url)
            except StoreUnusableError:
                raise
            except StoreUnavailableError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
            else:
                _log.info("the database is there")
                return store
    finally:
        await asyncio.to_thread(api.close)


def _away(words: str) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    body = json.dumps({"error_code": ProblemCode.TEMPORARILY_UNAVAILABLE.code, "message": words}).encode()

    def answer(_request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Retry-After", "1"),
        ]
        start("503 Service Unavailable", headers)
        return [body]

    return answer
