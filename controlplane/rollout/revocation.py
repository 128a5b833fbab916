"""Revoked tokens, from the store to every Envoy."""

from __future__ import annotations

import asyncio

from controlplane.clock import Clock
from controlplane.discovery.hub import Hub
from controlplane.domain import Verdict
from controlplane.store import Tokens, insist
from controlplane.translate.authentication import revoked_tokens
from controlplane.translate.resource import Resource

#: How much later than the control plane Envoy's clock may find a token expired (milliseconds).
_LEEWAY_MS = 60_000


class Revocations:
    """Keeps the published list of revoked tokens equal to the stored one; lives on the hub's loop."""

    def __init__(self, tokens: Tokens, hub: Hub, clock: Clock) -> None:
        self._tokens = tokens
        self._hub = hub
        self._clock = clock
        self._turn = asyncio.Lock()
        self._publishing: set[asyncio.Task[Resource]] = set()

    async def publish(self) -> Resource:
        """Publish the list as it is stored, as soon as the database says so."""
        async with self._turn:  # else a list that was read earlier could be published later
            ids = await insist(lambda: self._tokens.revoked(self._clock.now_ms() - _LEEWAY_MS))
            listed = revoked_tokens(ids)
            self._hub.publish(self._hub.snapshot.successor([listed]))
        return listed

    async def announce(self, patience: float) -> Verdict:
        """Publish the list and wait until every Envoy refuses what is on it, those out of touch included.

        The list is published also when the patience is over before it could be read.
        """
        publishing = asyncio.create_task(self.publish(), name="revocations")
        self._publishing.add(publishing)
        publishing.add_done_callback(self._publishing.discard)
        await asyncio.wait({publishing}, timeout=patience)
        if not publishing.done():
            return Verdict(done=False, waiting=("the database, which has the list of them, does not answer",))
        listed = publishing.result()
        target = {(listed.type_url, listed.name): listed.version}
        return await self._hub.wait_applied(target, patience, include_lost=True)
