"""Letting Envoy finish what it has in hand: no new connections, and each old one closed after its next answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx

from controlplane.translate.names import LISTENER

_ACTIVE = f"http.{LISTENER}.downstream_rq_active"
#: Seconds between two looks at what is still in hand, and how long they go on before somebody is told what is waited for.
_PAUSE, _QUIET = 0.05, 1.0
#: Seconds in which clients that send one request after another on a connection hear that it is the last one.
_NOTICE = 0.3
#: Seconds that Envoy may be silent before it is taken for dead; on a busy machine it may not run for some.
_PATIENCE = 15.0


async def drain(admin: Path, waiting: Callable[[int], None]) -> None:
    """Return when Envoy has answered everything that it had accepted, or does not answer itself.

    `waiting` is told once, when this takes a while, how many requests are still in hand.
    """
    transport = httpx.AsyncHTTPTransport(uds=str(admin))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://envoy", timeout=_PATIENCE) as envoy:
            # Answers carry "connection: close" from now on. Clients that are at it hear of it before nobody listens any
            # more: whoever connects in the very moment in which that ends finds its connection reset.
            await envoy.post("/healthcheck/fail")
            if await _active(envoy):
                await asyncio.sleep(_NOTICE)
            await envoy.post("/drain_listeners")
            began, told = asyncio.get_running_loop().time(), False
            while active := await _active(envoy):
                if not told and asyncio.get_running_loop().time() - began > _QUIET:
                    waiting(active)
                    told = True
                await asyncio.sleep(_PAUSE)
    except httpx.HTTPError:
        return


async def _active(envoy: httpx.AsyncClient) -> int:
    answer = await envoy.get("/stats", params={"filter": f"^{_ACTIVE}$", "format": "json"})
    stats = answer.json()["stats"]
    return sum(each.get("value", 0) for each in stats)
