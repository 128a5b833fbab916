"""A runtime without processes: replicas that become what a test or a benchmark says, at once or when told.

No task, thread or file per replica, so ten thousand endpoints cost a dictionary entry each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from controlplane.domain import Address, Machine, Phase, Replica, ReplicaSpec
from controlplane.runtimes.base import Fleet

#: Takes connections nowhere, and is a valid address in every resource made from it.
NOWHERE = Address(path="/dev/null")


@dataclass(frozen=True, slots=True)
class _Refusal:
    message: str
    permanent: bool


class FakeRuntime:
    """Keeps the Runtime contract: replicas are READY as soon as they are asked for, unless told otherwise.

    Artifacts can be made to start only when released (`hold_starts`) or to fail (`fail`), replicas can `crash`, stops can
    be held, and the runtime can be `lose`d and `regain`ed: while it is lost the fleet shows what it last knew and calls
    are dropped. `started` and `stopped` record what was asked, dropped calls left out.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        address: Callable[[ReplicaSpec], Address] = lambda _: NOWHERE,
        holds_connections: bool = False,
    ) -> None:
        self._fleet = fleet
        self._address = address
        self._holds_connections = holds_connections
        self._replicas: dict[str, Replica] = {}
        self._specs: dict[str, ReplicaSpec] = {}
        self._refusals: dict[str, _Refusal] = {}
        self._held: set[str] = set()
        self._holds_all = False
        self._holds_stops = False
        self._pids = 0
        self._connected = True
        self._reachable = asyncio.Event()
        self._reachable.set()
        #: What it says of its machine.
        self.machine: Machine | None = None
        #: Every start that was obeyed, and every stop, in order.
        self.started: list[ReplicaSpec] = []
        self.stopped: list[str] = []

    # The contract

    async def run(self) -> None:
        """Publish the replicas there are, then wait to be cancelled."""
        if self._connected:
            self._fleet.replace(self._replicas)
        await asyncio.get_running_loop().create_future()

    @property
    def connected(self) -> bool:
        """False between `lose` and `regain`."""
        return self._connected

    async def wait_connected(self) -> None:
        """Return at once when connected, else after `regain`."""
        await self._reachable.wait()

    async def start(self, spec: ReplicaSpec) -> None:
        """Make the replica READY, or FAILED, or STARTING until released, as it was arranged for its artifact."""
        present = self._replicas.get(spec.id)
        if not self._connected or (present is not None and present.phase not in {Phase.FAILED, Phase.ASLEEP}):
            return
        self.started.append(spec)
        if present is not None and present.phase is Phase.ASLEEP:
            self._specs[spec.id] = spec
            if spec.asleep:
                self._publish(present)
            else:
                self.wake(spec.id)
            return
        self._specs[spec.id] = spec
        self._pids += 1
        starting = Replica(
            id=spec.id,
            deployment=spec.deployment,
            phase=Phase.STARTING,
            address=self._address(spec),
            pid=self._pids,
            message="loading model",
            attempt=present.attempt + 1 if present else 1,
            holds_connections=self._holds_connections,
        )
        if spec.asleep:
            attempt = present.attempt if present else 0
            self._publish(replace(starting, phase=Phase.ASLEEP, pid=None, holds_connections=True, attempt=attempt))
        elif self._holds_all or spec.artifact_uri in self._held:
            self._publish(starting)
        else:
            self._publish(self._outcome(starting, spec))

    async def sleep(self, replica_id: str, grace: float) -> None:  # noqa: ARG002 - nothing is in hand here
        """Make a READY replica ASLEEP."""
        present = self._replicas.get(replica_id)
        if self._connected and present is not None and present.phase is Phase.READY:
            self._publish(replace(present, phase=Phase.ASLEEP, pid=None, holds_connections=True))

    async def stop(self, replica_id: str, grace: float) -> None:  # noqa: ARG002 - nothing is in hand here
        """Take the replica out of the fleet, or make it STOPPING while stops are held."""
        present = self._replicas.get(replica_id)
        if not self._connected or present is None or present.phase is Phase.STOPPING:
            return
        self.stopped.append(replica_id)
        if self._holds_stops:
            self._publish(replace(present, phase=Phase.STOPPING))
        else:
            self._forget(replica_id)

    async def logs(self, replica_id: str, lines: int) -> str:  # noqa: ARG002 - there is one line at most
        """The replica's last message, for it has printed nothing."""
        present = self._replicas.get(replica_id)
        return present.message if present else ""

    async def build_logs(self, replica_id: str, lines: int) -> str:  # noqa: ARG002 - there is one line at most
        """One line, for there is nothing to build."""
        return "The replica is not real." if replica_id in self._replicas else ""

    # What a test or a benchmark arranges

    def hold_starts(self, artifact_uri: str | None = None) -> None:
        """Let replicas of this artifact, or of all, stay STARTING until `release_starts`."""
        if artifact_uri is None:
            self._holds_all = True
        else:
            self._held.add(artifact_uri)

    def release_starts(self) -> None:
        """End all holds: STARTING replicas become READY, or FAILED if their artifact was made to fail."""
        self._holds_all = False
        self._held.clear()
        for present in list(self._replicas.values()):
            if present.phase is Phase.STARTING:
                self.finish_start(present.id)

    def finish_start(self, replica_id: str) -> None:
        """Let this one STARTING replica become what it would become."""
        present = self._replicas[replica_id]
        assert present.phase is Phase.STARTING
        self._publish(self._outcome(present, self._specs[replica_id]))

    def fail(self, artifact_uri: str, message: str, *, permanent: bool = True) -> None:
        """Let every later start of this artifact end FAILED with `message`."""
        self._refusals[artifact_uri] = _Refusal(message, permanent)

    def mend(self, artifact_uri: str) -> None:
        """Let later starts of this artifact succeed again."""
        self._refusals.pop(artifact_uri, None)

    def crash(self, replica_id: str, message: str = "killed by SIGKILL") -> None:
        """End the replica's process as a signal would; it gets a new pid when it is started again."""
        present = self._replicas[replica_id]
        self._publish(replace(present, phase=Phase.FAILED, pid=None, message=message, permanent=False))

    def wake(self, replica_id: str) -> None:
        """Let a request arrive at an ASLEEP replica: it is started, and becomes what it would become."""
        present = self._replicas[replica_id]
        assert present.phase is Phase.ASLEEP
        self._pids += 1
        self._publish(replace(present, phase=Phase.STARTING, pid=self._pids, attempt=present.attempt + 1))
        if not (self._holds_all or self._specs[replica_id].artifact_uri in self._held):
            self.finish_start(replica_id)

    def hold_stops(self) -> None:
        """Let replicas that are stopped stay STOPPING until `release_stops`."""
        self._holds_stops = True

    def release_stops(self) -> None:
        """End the hold: STOPPING replicas leave the fleet."""
        self._holds_stops = False
        for present in list(self._replicas.values()):
            if present.phase is Phase.STOPPING:
                self._forget(present.id)

    def lose(self) -> None:
        """Get out of reach: calls are dropped and the fleet shows nothing new."""
        self._connected = False
        self._reachable.clear()

    def regain(self) -> None:
        """Come back into reach: the fleet shows what has become of the replicas meanwhile."""
        self._connected = True
        self._reachable.set()
        self._fleet.replace(self._replicas)

    def _outcome(self, starting: Replica, spec: ReplicaSpec) -> Replica:
        refusal = self._refusals.get(spec.artifact_uri)
        if refusal is None:
            return replace(starting, phase=Phase.READY, message="")
        return replace(starting, phase=Phase.FAILED, pid=None, message=refusal.message, permanent=refusal.permanent)

    def _publish(self, replica: Replica) -> None:
        self._replicas[replica.id] = replica
        if self._connected:
            self._fleet.set(replica.id, replica)

    def _forget(self, replica_id: str) -> None:
        del self._replicas[replica_id]
        del self._specs[replica_id]
        if self._connected:
            self._fleet.delete(replica_id)
