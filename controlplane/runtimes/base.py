"""The contract that every runtime keeps."""

from __future__ import annotations

from typing import Protocol

from controlplane.domain import Machine, Replica, ReplicaSpec
from controlplane.watch import WatchedMap

#: Replica id → replica. Its one writer is the runtime.
Fleet = WatchedMap[str, Replica]


class OutOfReachError(Exception):
    """The runtime cannot be asked at present."""


class Runtime(Protocol):
    """Starts and stops replicas, and reports them in the fleet cell that it was built with.

    Calls only ask: they return when the request is on its way, and its effect shows in the fleet. Asking for what is
    already so changes nothing. A call made while the runtime is out of reach (its host restarts) is dropped without an
    error: the caller looks at the fleet again once it is back, and asks again.
    """

    async def run(self) -> None:
        """Connect, adopt the replicas that are running already, and keep the fleet true until cancelled."""

    @property
    def connected(self) -> bool:
        """True when the fleet shows what really runs; False before adoption and while the runtime is out of reach."""

    @property
    def machine(self) -> Machine | None:
        """What replicas share, as it was last measured; None when it is not known."""

    async def wait_connected(self) -> None:
        """Return once `connected` is True."""

    async def start(self, spec: ReplicaSpec) -> None:
        """Start a replica, or start it again when it is FAILED (same id, same address if the runtime can).

        One that is ASLEEP is woken, unless the spec lets it sleep: then it wakes by this spec when it is asked.
        """

    async def sleep(self, replica_id: str, grace: float) -> None:
        """Make a READY replica ASLEEP: it finishes the requests it has and ends; the next request wakes it."""

    async def stop(self, replica_id: str, grace: float) -> None:
        """End a replica: it finishes the requests it has, for at most `grace` seconds, and leaves the fleet."""

    async def logs(self, replica_id: str, lines: int) -> str:
        """The last lines that a replica has printed, also of one that is gone; raises OutOfReachError."""

    async def build_logs(self, replica_id: str, lines: int) -> str:
        """The last lines of how a replica's environment was built, also of one that is gone; raises OutOfReachError."""
