"""Who acts, as this control plane knows it. One acts; the others stand by, pass on what they are asked, and take over."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from controlplane.store import DeposedError, Lease, Peer, StoreUnavailableError, View

_log = logging.getLogger(__name__)

#: Seconds between two beats of one that acts, and of one that stands by.
RENEWAL, LOOK = 0.5, 0.25


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the duty is: ours when `here`, else with `acting`, if anybody."""

    here: bool
    epoch: int = 0
    acting: Peer | None = None
    peers: tuple[Peer, ...] = ()


class Duty:
    """Follows the lease on a thread of its own, because a loop that is busy must not lose it; tells one asyncio loop.

    Without a lease (a database that only this control plane has) it acts from the start, under epoch 0. One that has
    lost the duty never gets it back: its program ends, and starts anew as one that stands by.
    """

    def __init__(self, lease: Lease | None, me: Peer) -> None:
        self.me = me
        self.lease = lease
        self._standing = Standing(here=lease is None, peers=(me,), acting=me if lease is None else None)
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._known = threading.Condition()
        self._lost = asyncio.Event()
        self._closing = threading.Event()
        self._above = 0
        self._thread = threading.Thread(target=self._run, name="wye-duty", daemon=True)
        if lease is not None:
            self._thread.start()

    @property
    def standing(self) -> Standing:
        """Where the duty is now; safe to read from any thread."""
        return self._standing

    async def until(self, condition: Callable[[Standing], bool]) -> Standing:
        """The first standing that is so; on the loop only."""
        while not condition(self._standing):
            await self._changed.wait()
        return self._standing

    def wait(self, condition: Callable[[Standing], bool], patience: float) -> Standing | None:
        """The same for threads; None when it is not so within `patience` seconds."""
        with self._known:
            return self._standing if self._known.wait_for(lambda: condition(self._standing), patience) else None

    async def lost(self) -> None:
        """Return when the duty was ours and no longer is."""
        await self._lost.wait()

    def outdone(self, epoch: int) -> None:
        """Somebody has been told of a greater epoch than ours: either the duty is lost, or ours has to grow."""
        self._above = max(self._above, epoch)

    def close(self) -> None:
        """Give the duty up, so that another need not wait for it to run out."""
        if self.lease is None:
            return
        self._closing.set()
        self._thread.join()
        try:
            self.lease.release()
        except StoreUnavailableError as error:
            _log.warning("the duty cannot be handed over, and will run out: %s", error)

    def _run(self) -> None:
        assert self.lease is not None
        complained = False
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._show(self.lease.beat(self._above), self.lease.epoch)
                complained = False
            except DeposedError:
                _log.warning("another control plane has taken over: this one ends")
                self._loop.call_soon_threadsafe(self._lost.set)
                return
            except StoreUnavailableError as error:
                # Whoever acts goes on: perhaps nobody else can take over, and if one has, its epoch is in the way of ours.
                if not complained:
                    _log.warning("whether another control plane acts is unknown: %s", error)
                complained = True
            except Exception:  # noqa: BLE001 - nobody would notice that this thread has ended, and we believe what was so then
                # Its tables are away in the midst of a restore, say.
                if not complained:
                    _log.exception("whether another control plane acts is unknown")
                complained = True
            pause = RENEWAL if self.lease.epoch is not None else LOOK
            self._closing.wait(max(0.0, began + pause - time.monotonic()))

    def _show(self, view: View, epoch: int | None) -> None:
        standing = Standing(epoch is not None, epoch or view.epoch, view.acting, view.peers)
        if standing == self._standing:
            return
        if standing.here and not self._standing.here:
            _log.info("%s acts now, epoch %d", self.me.name, standing.epoch)
        with self._known:
            self._standing = standing
            self._known.notify_all()
        self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
