"""What the duty means for those who ask this control plane: answered here, or where; and what Envoys are told of it."""

from __future__ import annotations

import asyncio
import logging
import threading

from controlplane.discovery.hub import Hub
from controlplane.domain import Address
from controlplane.rollout.duty import Duty, Standing
from controlplane.store import Lease, StoreUnavailableError, insist
from controlplane.translate.clusters import control_planes

_log = logging.getLogger(__name__)

#: Seconds until a note of known Envoys that could not be made is made again.
_AGAIN = 1.0


class Leadership:
    """Where calls and streams belong. Both wait while nobody acts, or while the one that begins to is not ready."""

    def __init__(self, duty: Duty) -> None:
        self._duty = duty
        self._calls = threading.Event()
        self._streams = asyncio.Event()

    def calls_may_come(self) -> None:
        """Endpoints are loaded."""
        self._calls.set()

    def streams_may_come(self) -> None:
        """Everything is published."""
        self._streams.set()

    def for_calls(self, patience: float, not_at: Address | None = None) -> tuple[bool, Address | None]:
        """As `api.forward.Leader`."""
        gone = str(not_at) if not_at else ""
        standing = self._duty.wait(lambda s: s.here or (s.acting is not None and s.acting.api != gone), patience)
        if standing is None:
            return False, None
        if standing.here:
            return self._calls.wait(patience), None  # False: it will act, and is not ready yet
        assert standing.acting is not None
        return False, Address.parse(standing.acting.api)

    async def for_streams(self) -> Address | None:
        """Where a new stream of an Envoy is served; None: here."""
        standing = await self._duty.until(lambda s: s.here or s.acting is not None)
        if standing.here:
            await self._streams.wait()
            return None
        assert standing.acting is not None
        return Address.parse(standing.acting.xds)

    async def moved(self, there: Address) -> None:
        """Return when whoever is `there` acts no longer."""

        def elsewhere(standing: Standing) -> bool:
            return standing.here or (standing.acting is not None and standing.acting.xds != str(there))

        await self._duty.until(elsewhere)


async def publish_control_planes(duty: Duty, hub: Hub) -> None:
    """Keep Envoys told of where calls of the API are answered, for as long as this control plane acts."""
    told: tuple[Address, ...] = ()
    seen = duty.standing

    def changed(standing: Standing) -> bool:
        return standing is not seen

    while True:
        seen = duty.standing
        present = tuple(Address.parse(peer.api) for peer in seen.peers)
        if present and present != told:
            told = present
            hub.publish(hub.snapshot.successor([control_planes(present)]))
        await duty.until(changed)


async def note_envoys(lease: Lease, hub: Hub) -> None:
    """Keep noted which Envoys there are, so that whoever takes over waits for them before it stops what they may use."""
    noted = await insist(lease.known_envoys)
    changes = hub.subscribe()
    try:
        while True:
            present = set(hub.present)
            if present != noted:
                try:
                    await asyncio.to_thread(lease.note_envoys, present - noted, noted - present)
                    noted = present
                except StoreUnavailableError as error:
                    _log.warning("the Envoys that there are cannot be noted: %s", error)
                    await asyncio.sleep(_AGAIN)
                    continue
            await changes.wait()
            changes.take()
    finally:
        changes.close()
