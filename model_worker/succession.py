"""What passes from a host that has died to the next: its living replicas, and the sockets of the others."""

from __future__ import annotations

import socket
from collections.abc import Callable, Container

from model_worker import orphanage
from model_worker.keeping import Keeping
from model_worker.options import Options
from model_worker.orphanage import Orphan, Orphanage
from model_worker.protocol import State
from model_worker.record import Left, Record


class Succession:
    """Finds what a predecessor has left, and leaves the same to a successor."""

    def __init__(self, options: Options, adopt: Callable[[Orphan], bool]) -> None:
        """`adopt` takes over a living replica, or returns False."""
        self._record = Record(options.log_dir / "record")
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
            self.refuse(name, listener)
        return found

    def refuse(self, name: str, kept: socket.socket | None) -> None:
        """Of what `take` has found this is not taken over: unless it lives, nobody waits in its socket any more."""
        if kept is not None:
            kept.close()
        if not self._orphanage.has_taken(name):
            self.keeping.drop(name)

    def changed(self, name: str, state: State, born: float) -> None:
        """Leave a replica as it is now, with the birth of its process."""
        self._record.write(name, state, born)

    def gone(self, name: str) -> None:
        """There is no such replica any more."""
        self._record.remove(name)

    def only(self, names: Container[str]) -> None:
        """There is none but these."""
        self._record.remove_others(names)

    async def close(self) -> None:
        """There will be nothing to pass on."""
        await self._orphanage.close()
        self._record.remove_others(())
