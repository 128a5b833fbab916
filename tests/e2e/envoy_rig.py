"""A real Envoy, tiny upstreams and hand-written resources, to try the xDS server against the thing itself."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import envoy_data_plane.envoy.extensions.filters.http.router.v3
import envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3  # noqa: F401 - knows its name by being imported
import httpx
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration, ScopedRouteConfiguration

from controlplane.clock import SystemClock
from controlplane.discovery.hub import Hub
from controlplane.discovery.server import Server, serve
from controlplane.domain import Address
from controlplane.translate.resource import Resource, TypeUrl
from controlplane.translate.snapshot import Key, Snapshot
from tests import listening

#: Seconds within which everything must have happened, on a machine that stands still now and then.
PATIENCE = 40.0

#: Envoy's own patience with what it is not told is far longer than ours, so that its end is never mistaken for success.
ADS = {"ads": {}, "resourceApiVersion": "V3", "initialFetchTimeout": "600s"}
_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = {
    "name": "router",
    "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}


def cluster(name: str, **fields: Any) -> Resource:
    """An EDS cluster."""
    message = {"name": name, "type": "EDS", "connectTimeout": "1s", "edsClusterConfig": {"edsConfig": ADS}, **fields}
    return Resource.of(TypeUrl.CLUSTER, name, bytes(Cluster.from_dict(message)))


def endpoints(name: str, *upstreams: Upstream) -> Resource:
    """Where a cluster's requests go; none at all is valid."""
    hosts = [{"endpoint": {"address": {"pipe": {"path": str(each.path)}}}} for each in upstreams]
    message = {"clusterName": name, "endpoints": [{"lbEndpoints": hosts}] if hosts else []}
    return Resource.of(TypeUrl.ENDPOINTS, name, bytes(ClusterLoadAssignment.from_dict(message)))


def routes(name: str, **weights: int) -> Resource:
    """All requests to these clusters."""
    split = {"clusters": [{"name": each, "weight": weight} for each, weight in weights.items()]}
    route = {"match": {"prefix": "/"}, "route": {"weightedClusters": split}}
    message = {"name": name, "virtualHosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}
    body = bytes(RouteConfiguration.from_dict(message))
    return Resource.of(TypeUrl.ROUTES, name, body, frozenset(weights))


def scope(endpoint: str, refs: Iterable[str]) -> Resource:
    """Requests under `/serving-endpoints/{endpoint}` to the routes of that name."""
    fragments = [{"stringKey": "serving-endpoints"}, {"stringKey": endpoint}]
    message = {"name": endpoint, "routeConfigurationName": endpoint, "key": {"fragments": fragments}}
    return Resource.of(TypeUrl.SCOPE, endpoint, bytes(ScopedRouteConfiguration.from_dict(message)), frozenset(refs))


def listener(path: Path, **manager: Any) -> Resource:
    """The listener on a Unix socket; `manager` says where its routes come from."""
    config = {"@type": _HCM, "statPrefix": "ingress", "httpFilters": [_ROUTER], **manager}
    message = {
        "name": "public",
        "address": {"pipe": {"path": str(path)}},
        "filterChains": [{"filters": [{"name": "http", "typedConfig": config}]}],
    }
    return Resource.of(TypeUrl.LISTENER, "public", bytes(Listener.from_dict(message)))


def by_routes(path: Path, name: str) -> Resource:
    """A listener with one route table."""
    return listener(path, rds={"routeConfigName": name, "configSource": ADS})


def by_scopes(path: Path) -> Resource:
    """A listener whose route table is chosen by the first two segments of the path."""

    def segment(index: int) -> dict[str, Any]:
        element = {"name": ":path", "elementSeparator": "/", "index": index}
        return {"headerValueExtractor": element}

    scoped = {
        "name": "scopes",
        "scopeKeyBuilder": {"fragments": [segment(1), segment(2)]},
        "rdsConfigSource": ADS,
        "scopedRds": {"scopedRdsConfigSource": ADS},
    }
    return listener(path, scopedRoutes=scoped)


class Upstream:
    """An HTTP/1.1 server on a Unix socket that answers every request with its name."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.requests = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        assert self._server is not None
        await listening.close(self._server)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = self.name.encode()
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                writer.write(answer)
                await writer.drain()
        writer.close()


class Envoy:
    """One Envoy process that takes everything from the xDS server at `xds`."""

    def __init__(self, folder: Path, node_id: str, xds: Address, api_type: str, keepalive: float) -> None:
        self.folder = folder
        self.node_id = node_id
        self.process: asyncio.subprocess.Process | None = None
        self._xds = xds
        self._api_type = api_type
        self._keepalive = keepalive
        transport = httpx.AsyncHTTPTransport(uds=str(folder / f"{node_id}.admin"))
        self.admin = httpx.AsyncClient(transport=transport, base_url="http://admin", timeout=PATIENCE)

    async def start(self) -> None:
        binary = importlib.resources.files("envoy._bin") / "envoy"
        config = self.folder / f"{self.node_id}.json"
        config.write_text(json.dumps(self._bootstrap()))
        with (self.folder / f"{self.node_id}.log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                str(binary), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "info",
                stdout=log, stderr=log,
            )  # fmt: skip

    async def stop(self) -> None:
        if self.process is not None:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
        await self.admin.aclose()

    def log(self) -> str:
        return (self.folder / f"{self.node_id}.log").read_text()

    async def stat(self, name: str) -> int:
        """The value of one counter or gauge."""
        text = (await self.admin.get("/stats", params={"filter": f"^{name}$"})).text
        return int(text.split(":")[1]) if text else 0

    async def dump(self, resource: str) -> list[dict[str, Any]]:
        answer = await self.admin.get("/config_dump", params={"resource": resource})
        return list(answer.json().get("configs", []))

    def _bootstrap(self) -> Mapping[str, Any]:
        where = (
            {"pipe": {"path": self._xds.path}}
            if self._xds.path
            else {"socketAddress": {"address": self._xds.host, "portValue": self._xds.port}}
        )
        options = {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicitHttpConfig": {
                "http2ProtocolOptions": {"connectionKeepalive": {"interval": f"{self._keepalive}s", "timeout": "40s"}}
            },
        }
        return {
            "node": {"id": self.node_id, "cluster": "gateway"},
            "admin": {"address": {"pipe": {"path": str(self.folder / f"{self.node_id}.admin")}}},
            "statsFlushInterval": "0.5s",  # of `server.uptime`, too
            "dynamicResources": {
                "adsConfig": {
                    "apiType": self._api_type,
                    "transportApiVersion": "V3",
                    "setNodeOnFirstMessageOnly": True,
                    "grpcServices": [{"envoyGrpc": {"clusterName": "xds"}}],
                },
                "cdsConfig": ADS,
                "ldsConfig": ADS,
            },
            "staticResources": {
                "clusters": [
                    {
                        "name": "xds",
                        "type": "STATIC",
                        "connectTimeout": "1s",
                        "typedExtensionProtocolOptions": {
                            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
                        },
                        "loadAssignment": {
                            "clusterName": "xds",
                            "endpoints": [{"lbEndpoints": [{"endpoint": {"address": where}}]}],
                        },
                    }
                ]
            },
        }


class Load:
    """Requests without pause from a number of connections, every answer counted."""

    def __init__(self, path: Path, url: str, connections: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.bodies: Counter[str] = Counter()
        self._path = path
        self._url = url
        self._connections = connections
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self._connections)]
        await self.more(self._connections)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def more(self, requests: int) -> None:
        """Return when that many requests more have been answered."""
        goal = self.statuses.total() + requests
        await until(lambda: self.statuses.total() >= goal)

    async def _run(self) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self._path))
        request = f"GET {self._url} HTTP/1.1\r\nhost: test\r\n\r\n".encode()
        while not self._stopping:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            self.statuses[int(head.split()[1])] += 1
            self.bodies[body.decode()] += 1
        writer.close()
        await writer.wait_closed()


class Rig:
    """An xDS server on a Unix socket in a folder with a short name, and whatever was started around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.public = folder / "public"
        self.address = Address(path=str(folder / "xds"))
        self.hub = Hub(SystemClock())
        self.server: Server | None = None
        self._envoys: list[Envoy] = []
        self._upstreams: list[Upstream] = []

    @property
    def snapshot(self) -> Snapshot:
        return self.hub.snapshot

    async def serve(self) -> None:
        self.server = await serve(self.hub, self.address)

    async def restart_server(self, snapshot: Snapshot) -> None:
        """The control plane dies and comes back, knowing what is in `snapshot` and nothing of its former life."""
        assert self.server is not None
        await self.server.stop(0.5)
        self.hub = Hub(SystemClock())
        self.hub.publish(snapshot)
        await self.serve()

    def publish(self, *put: Resource, removed: Iterable[Key] = ()) -> dict[Key, str | None]:
        """Publish the change; the targets to wait for."""
        removed = tuple(removed)
        self.hub.publish(self.snapshot.successor(put, removed))
        return {(each.type_url, each.name): each.version for each in put} | dict.fromkeys(removed)

    async def apply(self, *put: Resource, removed: Iterable[Key] = ()) -> float:
        """Publish the change and wait until it is applied; the seconds that took."""
        begin = time.perf_counter()
        targets = self.publish(*put, removed=removed)
        verdict = await self.hub.wait_applied(targets, PATIENCE)
        assert verdict.done, verdict
        return time.perf_counter() - begin

    async def upstream(self, name: str) -> Upstream:
        upstream = Upstream(self.folder / f"u{len(self._upstreams)}", name)
        await upstream.start()
        self._upstreams.append(upstream)
        return upstream

    async def envoy(self, node_id: str = "envoy-1", *, api_type: str = "DELTA_GRPC", keepalive: float = 30) -> Envoy:
        envoy = Envoy(self.folder, node_id, self.address, api_type, keepalive)
        self._envoys.append(envoy)
        await envoy.start()
        return envoy

    async def get(self, url: str = "/", path: Path | None = None) -> tuple[int, str]:
        """One request through Envoy."""
        transport = httpx.AsyncHTTPTransport(uds=str(path or self.public))
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=PATIENCE) as client:
            answer = await client.get(url)
            return answer.status_code, answer.text

    async def stop(self) -> None:
        for envoy in self._envoys:
            await envoy.stop()
        if self.server is not None:
            await self.server.stop(0.1)
        for upstream in self._upstreams:
            await upstream.stop()


@contextlib.asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    """A rig that leaves nothing behind."""
    # Short, because a Unix socket's path may have 107 bytes and pytest's own folders are long.
    folder = Path(tempfile.mkdtemp(prefix="wx"))
    it = Rig(folder)
    try:
        await it.serve()
        yield it
    finally:
        await it.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; raises TimeoutError when it does not come to hold."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - of another process's doings nobody tells us
            await asyncio.sleep(0.001)
