"""The fork servers of a host: one for each Python environment, alive while somebody needs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_worker.environments import BASE, Environment
from model_worker.forks import ForkServer
from model_worker.pulse import Patience

#: Seconds that one which nobody uses is kept, because it takes seconds to import an environment again.
_IDLE = 60.0


@dataclass(slots=True)
class _Running:
    server: ForkServer
    task: asyncio.Task[None]
    users: int = 0
    ending: asyncio.TimerHandle | None = None


class ForkServers:
    """Starts a fork server when its environment is first used and ends it when it has not been for a while.

    The base environment's is there from the beginning to the end, so that its next replica is milliseconds away.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        patience: Patience,
        *,
        log_dir: Path,
        directory: Path,
        idle: float = _IDLE,
    ) -> None:
        """`variables`: what the fork servers see, and so all their children."""
        self._variables = dict(variables)
        self._patience = patience
        self._log_dir = log_dir
        self._directory = directory
        self._idle = idle
        self._running: dict[str, _Running] = {}
        #: The base environment's.
        self.base = self._server(BASE)

    async def run(self) -> None:
        """Keep the base environment's running until cancelled, then end all; replicas are left to whoever started them."""
        try:
            await self.base.run()
        finally:
            tasks = [running.task for running in self._running.values()]
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
        if running.ending is not None:
            running.ending.cancel()
            running.ending = None
        running.users += 1
        try:
            yield running.server
        finally:
            running.users -= 1
            if running.users == 0:
                loop = asyncio.get_running_loop()
                running.ending = loop.call_later(self._idle, self._end, environment.key)

    def _end(self, key: str) -> None:
        self._running.pop(key).task.cancel()

    def _server(self, environment: Environment) -> ForkServer:
        name = "forkserver" if environment == BASE else f"forkserver-{environment.key}"
        log = self._log_dir / f"{name}.txt"
        return ForkServer(environment, self._variables, self._patience, log=log, directory=self._directory)
