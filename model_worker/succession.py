"""What passes from a host that has died to the next: its living replicas, and the sockets of the others."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterable

from model_worker import orphanage
from model_worker.keeping import Keeping
from model_worker.options import Options
from model_worker.orphanage import Left, Orphan, Orphanage, Record
from model_worker.protocol import State

_logger = logging.getLogger(__name__)

#: Least seconds between a change of the replicas and the writing of it to where a successor of this host finds it.
_PAUSE = 0.02

#: Of the time that writing takes, so many times go by before it is done again: not so often that it would be noticed.
_SELDOM = 20


class Succession:
    """Finds what a predecessor has left, and leaves the same to a successor."""

    def __init__(
        self,
        options: Options,
        adopt: Callable[[Orphan], bool],
        replicas: Callable[[], Iterable[tuple[str, State, float]]],
    ) -> None:
        """`adopt` takes over a living replica, or returns False; `replicas`: name, state and birth of those there are."""
        self._replicas = replicas
        self._record = Record(options.log_dir / "replicas.json")
        self._writing: asyncio.TimerHandle | None = None
        self._pause = _PAUSE
        #: Where replicas that lose this host look for the next.
        self.address = orphanage.address(options.socket_dir, options.log_dir)
        self._orphanage = Orphanage(self.address, adopt)
        keeper = orphanage.address(options.socket_dir, options.log_dir, "keeper")
        #: Has the sockets of all replicas.
        self.keeping = Keeping(keeper, options.limits.orphan_grace, options.log_dir)

    async def take(self) -> list[tuple[Left, socket.socket | None]]:
        """Let living replicas be adopted, now and from now on; what else there was, with its socket unless that is lost."""
        lost = await self._orphanage.open(self._record.read())
        kept = await self.keeping.take()
        found = [(left, kept.pop(left.name, None)) for left in lost]
        for name, listener in kept.items():
            listener.close()
            if not self._orphanage.has_taken(name):
                self.keeping.drop(name)
        return found

    def changed(self) -> None:
        """Write the replicas down, soon."""
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(self._pause, self._write)

    def _write(self) -> None:
        self._writing = None
        began = time.monotonic()
        try:
            self._record.write(self._replicas())
        except OSError as error:
            _logger.warning("a successor of this host would not know its replicas: %s", error)
        self._pause = max(_PAUSE, _SELDOM * (time.monotonic() - began))

    async def close(self) -> None:
        """There will be nothing to pass on."""
        await self._orphanage.close()
        if self._writing is not None:
            self._writing.cancel()
        self._record.forget()
