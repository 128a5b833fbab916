"""A hub behind a real server on a Unix socket, and hand-made resources that only have a name and some content."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, ParamSpec

from controlplane.clock import FakeClock
from controlplane.discovery.envoy_model import Received
from controlplane.discovery.hub import Hub
from controlplane.discovery.server import Server, serve
from controlplane.discovery.testing import FakeEnvoy, quiesce, resource
from controlplane.domain import Address
from controlplane.translate.resource import Resource, TypeUrl
from controlplane.translate.snapshot import Key, Snapshot

P = ParamSpec("P")

CDS, EDS, LDS, RDS, SRDS, SDS = (
    TypeUrl.CLUSTER,
    TypeUrl.ENDPOINTS,
    TypeUrl.LISTENER,
    TypeUrl.ROUTES,
    TypeUrl.SCOPE,
    TypeUrl.SECRET,
)


def asynchronous(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test on an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class World:
    """The server's side of a test: what is published, and who is connected."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.hub = Hub(self.clock)
        self.address = Address(path=str(folder / "xds"))
        self.envoys: list[FakeEnvoy] = []
        self._server: Server | None = None

    async def start(self) -> None:
        self._server = await serve(self.hub, self.address)

    async def stop(self) -> None:
        for envoy in self.envoys:
            await envoy.disconnect()
        if self._server is not None:
            await self._server.stop(0)

    async def stop_server(self, grace: float) -> None:
        assert self._server is not None
        await self._server.stop(grace)
        self._server = None

    async def restart(self) -> None:
        """A new control plane, which knows the same resources and nothing of its former life."""
        await self.stop_server(0)
        before, self.hub = self.hub.snapshot, Hub(self.clock)
        self.hub.publish(before)
        await self.start()

    @property
    def snapshot(self) -> Snapshot:
        return self.hub.snapshot

    def put(self, *resources: Resource, removed: Iterable[Key] = ()) -> dict[Key, str | None]:
        """Publish a successor with these changes; what to wait for."""
        removed = tuple(removed)
        self.hub.publish(self.snapshot.successor(resources, removed))
        return {(each.type_url, each.name): each.version for each in resources} | dict.fromkeys(removed)

    async def connect(self, envoy: FakeEnvoy) -> FakeEnvoy:
        await envoy.connect()
        self.envoys.append(envoy)
        return envoy

    async def quiesce(self) -> None:
        await quiesce(self.hub, *(envoy for envoy in self.envoys if envoy.ended is None))


@contextlib.asynccontextmanager
async def world(*resources: Resource) -> AsyncIterator[World]:
    """A world whose first snapshot has these resources."""
    folder = Path(tempfile.mkdtemp(prefix="wx"))
    it = World(folder)
    try:
        it.put(*resources)
        await it.start()
        yield it
    finally:
        await it.stop()
        shutil.rmtree(folder)


def summary(responses: Iterable[Received]) -> list[tuple[str, ...]]:
    """Responses as ("Cluster", "a", "-b"): the type, what it brings, and with a minus what it removes."""
    return [
        (each.type_url.rpartition(".")[2], *each.names, *(f"-{name}" for name in sorted(each.removed)))
        for each in responses
    ]


__all__ = [
    "CDS", "EDS", "LDS", "RDS", "SDS", "SRDS",
    "FakeEnvoy", "World", "asynchronous", "resource", "summary", "world",
]  # fmt: skip
