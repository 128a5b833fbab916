"""Secrets reach a replica here, when it is started, and nowhere else: what is stored and shown keeps the references."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from controlplane.domain import Machine, Phase, Replica, ReplicaSpec, secret_reference
from controlplane.runtimes import Fleet, Runtime
from controlplane.store import Secrets, StoreUnavailableError

_log = logging.getLogger(__name__)


def has_secrets(spec: ReplicaSpec) -> bool:
    """Whether it has to be looked up what its variables are."""
    return any(secret_reference(value) for _, value in spec.environment_vars)


class WithSecrets:
    """A runtime whose replicas find the values where their specs have `{{secrets/scope/key}}`.

    A replica that refers to a secret that is gone is not started; it is in the fleet as FAILED, and says which.
    """

    def __init__(self, runtime: Runtime, secrets: Secrets, fleet: Fleet) -> None:
        self._runtime = runtime
        self._secrets = secrets
        self._fleet = fleet
        self._refused: set[str] = set()
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._next: dict[str, ReplicaSpec] = {}
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """As the runtime's."""
        await self._runtime.run()

    @property
    def connected(self) -> bool:
        """As the runtime's."""
        return self._runtime.connected

    @property
    def machine(self) -> Machine | None:
        """As the runtime's."""
        return self._runtime.machine

    async def wait_connected(self) -> None:
        """As the runtime's."""
        await self._runtime.wait_connected()

    async def start(self, spec: ReplicaSpec) -> None:
        """Start a replica with the secrets' values as they are now; who has secrets is started as soon as they are read."""
        if not has_secrets(spec):
            await self._runtime.start(spec)
        elif spec.id in self._starting:
            self._next[spec.id] = spec  # what is being read may be older than what this is for
        else:
            # Not waited for: a database that is slow to answer would hold up every other endpoint too.
            task = self._starting[spec.id] = asyncio.create_task(self._starts(spec), name=f"secrets of {spec.id}")
            task.add_done_callback(lambda task: self._started(spec.id, task))

    async def _starts(self, spec: ReplicaSpec) -> None:
        asked: ReplicaSpec | None = spec
        while asked is not None:
            await self._start(asked)
            asked = self._next.pop(spec.id, None)
        del self._starting[spec.id]

    def _started(self, replica_id: str, task: asyncio.Task[None]) -> None:
        if self._starting.get(replica_id) is task:  # it was cancelled
            del self._starting[replica_id]

    async def _start(self, spec: ReplicaSpec) -> None:
        try:
            async with self._turn:  # threads are for others too
                values, missing = await asyncio.to_thread(self._values, spec)
        except StoreUnavailableError as error:
            _log.warning("replica %s waits for its secrets: %s", spec.id, error)
            return  # it will be asked for again
        if missing:
            self._refuse(spec, missing)
            return
        self._refused.discard(spec.id)
        await self._runtime.start(replace(spec, environment_vars=values))

    async def sleep(self, replica_id: str, grace: float) -> None:
        """As the runtime's."""
        await self._runtime.sleep(replica_id, grace)

    async def stop(self, replica_id: str, grace: float) -> None:
        """As the runtime's."""
        self._next.pop(replica_id, None)
        if replica_id in self._starting:
            self._starting[replica_id].cancel()
        if replica_id in self._refused:
            self._refused.discard(replica_id)
            self._fleet.delete(replica_id)
        await self._runtime.stop(replica_id, grace)

    async def logs(self, replica_id: str, lines: int) -> str:
        """As the runtime's."""
        return await self._runtime.logs(replica_id, lines)

    async def build_logs(self, replica_id: str, lines: int) -> str:
        """As the runtime's."""
        return await self._runtime.build_logs(replica_id, lines)

    def _values(self, spec: ReplicaSpec) -> tuple[tuple[tuple[str, str], ...], list[str]]:
        values: list[tuple[str, str]] = []
        missing: list[str] = []
        for name, value in spec.environment_vars:
            place = secret_reference(value)
            secret = self._secrets.value(*place) if place else value.encode()
            if secret is None:
                missing.append(value)
            else:
                values.append((name, secret.decode(errors="surrogateescape")))
        return tuple(values), missing

    def _refuse(self, spec: ReplicaSpec, missing: list[str]) -> None:
        self._refused.add(spec.id)
        message = f"There is no secret {', '.join(missing)} any more, or its key is lost; put it again."
        self._fleet.set(spec.id, Replica(spec.id, spec.deployment, Phase.FAILED, message=message, permanent=True))
