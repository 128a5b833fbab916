"""The fork servers of a host: one for each Python environment, alive while somebody needs it. `superfluous` is pure."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from model_worker.chore import Chore
from model_worker.environments import BASE, Environment
from model_worker.forks import ForkServer
from model_worker.pulse import Patience

#: Seconds that any is kept without a process to fork, because it takes seconds to import an environment again.
IDLE = 60.0

#: The part of the machine's memory that is to be free for those who have nothing to do to stay.
_SCARCE = 0.2


@dataclass(slots=True)
class _Running:
    server: ForkServer
    task: asyncio.Task[None]
    users: int = 0
    idle_since: float = 0.0


def superfluous(idle: Mapping[str, float], needed: Collection[str], warm: int, patience: float = IDLE) -> list[str]:
    """Which to end of those that have been idle for so many seconds, by their environments' keys.

    Those that replicas without a process will need when they wake stay, as many as are to be kept `warm`, last used first.
    """
    last_used_first = sorted((key for key in idle if key in needed), key=lambda key: (idle[key], key))
    kept = last_used_first[:warm]
    return sorted(key for key, seconds in idle.items() if seconds >= patience and key not in kept)


def _memory_is_scarce() -> bool:
    memory = psutil.virtual_memory()
    return bool(memory.available < _SCARCE * memory.total)


class ForkServers:
    """Starts a fork server when its environment is first used and ends it when it has not been for a while, and will not be.

    The base environment's is there from the beginning to the end, so that its next replica is milliseconds away.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        patience: Patience,
        *,
        log_dir: Path,
        directory: Path,
        warm: int = 0,
        needed: Callable[[], Collection[str]] = tuple,
        idle: float = IDLE,
    ) -> None:
        """`variables`: what the fork servers see, and so all their children.

        `warm`: so many are kept for replicas without a process, which are in the environments that are `needed`.
        """
        self._variables = dict(variables)
        self._patience = patience
        self._log_dir = log_dir
        self._directory = directory
        self._warm = warm
        self._needed = needed
        self._idle = idle
        self._running: dict[str, _Running] = {}
        #: The base environment's.
        self.base = self._server(BASE)

    async def run(self) -> None:
        """Keep the base environment's running until cancelled, then end all; replicas are left to whoever started them."""
        ending = asyncio.create_task(self._end_superfluous(), name="idle fork servers")
        try:
            await self.base.run()
        finally:
            tasks = [ending, *(running.task for running in self._running.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def of(self, environment: Environment) -> AsyncIterator[ForkServer]:
        """The fork server of an environment, which runs as long as the context at least."""
        if environment == BASE:
            yield self.base
            return
        running = self._running.get(environment.key)
        if running is None:
            server = self._server(environment)
            task = asyncio.create_task(server.run(), name=f"fork server {environment.key}")
            running = self._running[environment.key] = _Running(server, task)
        running.users += 1
        try:
            yield running.server
        finally:
            running.users -= 1
            running.idle_since = time.monotonic()

    async def _end_superfluous(self) -> None:
        ending = Chore("idle fork servers cannot be ended")
        while True:
            await asyncio.sleep(self._idle / 6)
            with ending:
                now = time.monotonic()
                idle = {key: now - each.idle_since for key, each in self._running.items() if each.users == 0}
                warm = 0 if _memory_is_scarce() else self._warm
                for key in superfluous(idle, self._needed(), warm, self._idle):
                    self._running.pop(key).task.cancel()

    def _server(self, environment: Environment) -> ForkServer:
        name = "forkserver" if environment == BASE else f"forkserver-{environment.key}"
        log = self._log_dir / f"{name}.txt"
        return ForkServer(environment, self._variables, self._patience, log=log, directory=self._directory)
