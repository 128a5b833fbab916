"""The listening socket, and the clocks of its connections."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic, time

from model_worker.http.bounds import Bounds
from model_worker.http.connection import Connection, Shared
from model_worker.service import Service
from model_worker.traces import Traces
from model_worker.usage import Usage


class Server:
    """Accepts on one listening socket; `start` returns when it listens, `finish` when all is answered."""

    def __init__(self, service: Service, bounds: Bounds, traces: Traces | None = None) -> None:
        self._shared = Shared(service, bounds, traces, Usage(began=time()))
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> frozenset[Connection]:
        """Those that are open."""
        return frozenset(self._shared.connections)

    async def start(self, listener: socket.socket, backlog: int) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._shared), sock=listener, backlog=backlog)
        self._sweep = loop.call_later(1.0, self._look_at_clocks)

    def say_farewell(self) -> None:
        """Accept who comes, but let each connection's next answer be its last: nobody may ask again just as it is closed."""
        self._shared.finishing = True

    async def finish(self) -> None:
        """Accept no more, answer what has come or is coming, close every connection."""
        shared = self._shared
        shared.finishing = True
        if self._server is not None:
            self._server.close()
            # Who was accepted in this turn of the loop is known in the next.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        for connection in list(shared.connections):
            connection.finish()
        if shared.connections:
            shared.none_left.clear()
            await shared.none_left.wait()
        if self._sweep is not None:
            self._sweep.cancel()

    def _look_at_clocks(self) -> None:
        now = monotonic()
        for connection in list(self._shared.connections):
            if now > connection.deadline:
                connection.late()
        self._sweep = asyncio.get_running_loop().call_later(1.0, self._look_at_clocks)
