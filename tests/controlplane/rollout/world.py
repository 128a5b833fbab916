"""The supervisor with all it works with: a real store, hub and xDS stream, a fake runtime and a fake Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from controlplane.clock import SystemClock
from controlplane.discovery.hub import Hub
from controlplane.discovery.server import serve
from controlplane.discovery.testing import FakeEnvoy
from controlplane.domain import (
    Address,
    Endpoint,
    Replica,
    UpdateState,
)
from controlplane.rollout.autoscale import ScaleOptions
from controlplane.rollout.state import Options
from controlplane.rollout.supervisor import Supervisor
from controlplane.runtimes.fake import FakeRuntime
from controlplane.store import Endpoints, Store
from controlplane.translate.gateway import Gateway
from controlplane.watch import WatchedMap
from tests.controlplane.rollout.builders import begin, empty, specs, split

GATEWAY = Gateway(public=Address(host="127.0.0.1", port=8080), api=(Address(path="/run/api.sock"),))


class ForgetfulStore(Store):
    """A store that fails at the next writes, and at the next reads of one endpoint, as it is told to."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.refusals: list[Exception] = []
        self.unreadable: list[Exception] = []

    def save(self, endpoint: Endpoint) -> None:
        if self.refusals:
            raise self.refusals.pop()
        super().save(endpoint)

    def get(self, name: str) -> Endpoint | None:
        if self.unreadable:
            raise self.unreadable.pop()
        return super().get(name)


class World:
    """Everything around one supervisor."""

    def __init__(self, folder: Path) -> None:
        self.store = ForgetfulStore(f"sqlite:///{folder}/wye.db")
        self.endpoints = Endpoints(self.store, WatchedMap[str, Endpoint]())
        self.fleet = WatchedMap[str, Replica]()
        self.runtime = FakeRuntime(self.fleet, address=lambda spec: Address(path=f"/run/{spec.id}"))
        self.hub = Hub(SystemClock())
        self.address = Address(path=str(folder / "xds"))
        self.supervisor = Supervisor(
            endpoints=self.endpoints,
            fleet=self.fleet,
            hub=self.hub,
            runtime=self.runtime,
            gateway=GATEWAY,
            clock=SystemClock(),
            options=Options(drain=0.02, grace=1.0, deploy_timeout=60.0),
            scaling=ScaleOptions(down_after=0.2, to_zero_after=0.2),
        )

    def get(self, name: str = "ep") -> Endpoint:
        endpoint = self.endpoints.get(name)
        assert endpoint is not None
        return endpoint

    def update(self, traffic: dict[str, int] | None = None, **versions: str) -> None:
        """What the API does on PUT …/config."""
        shares = split(**traffic) if traffic else None
        self.endpoints.save(begin(self.get(), specs(**versions), shares, now_ms=SystemClock().now_ms()))

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Return when the condition holds; fails after a minute."""
        try:
            async with asyncio.timeout(60):
                while not condition():  # noqa: ASYNC110 - conditions of many kinds have no common event
                    await asyncio.sleep(0.002)
        except TimeoutError:
            pytest.fail(f"did not come to be: {what or condition}")

    async def settled(self, name: str = "ep") -> Endpoint:
        """The endpoint once its update has ended."""
        await self.until(lambda: self.get(name).update is not UpdateState.IN_PROGRESS, "the update ends")
        return self.get(name)


@contextlib.asynccontextmanager
async def world(*, envoys: int = 1) -> AsyncIterator[tuple[World, list[FakeEnvoy]]]:
    """A running supervisor with an endpoint `ep` that has no config yet, and fake Envoys connected to its hub."""
    folder = Path(tempfile.mkdtemp(prefix="ws"))
    it = World(folder)
    it.endpoints.insert(empty())
    tasks = [asyncio.create_task(it.runtime.run()), asyncio.create_task(it.supervisor.run())]
    await it.supervisor.wait_published()
    server = await serve(it.hub, it.address)
    connected = [FakeEnvoy(it.address, f"envoy-{number}", follows=True) for number in range(envoys)]
    for envoy in connected:
        await envoy.connect()
    try:
        yield it, connected
    finally:
        for envoy in connected:
            await envoy.disconnect()
        await server.stop(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        it.store.close()
        shutil.rmtree(folder)


def run(test: Callable[[World, list[FakeEnvoy]], object], *, envoys: int = 1) -> None:
    """Run a test's coroutine inside a world."""

    async def inside() -> None:
        async with world(envoys=envoys) as (it, connected):
            await test(it, connected)  # type: ignore[misc]

    asyncio.run(inside())
