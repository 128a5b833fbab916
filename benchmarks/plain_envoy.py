"""An Envoy that does nothing but pass requests on to one Unix socket: what any Envoy costs, whatever it is told to do."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.client import Connection
from benchmarks.programs import Program, running, until
from controlplane.up.preflight import find_envoy

_HTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


@contextmanager
def plain_envoy(upstream: Path, folder: Path, under: Sequence[str] = ()) -> Iterator[tuple[str, Program]]:
    """Its URL and process; `/invocations` there is `/invocations` of the replica that listens at `upstream`.

    `under` is a command that Envoy is run under, such as Valgrind's. Envoy has one worker thread.
    """
    port = _free_port()
    written = folder / "plain-envoy.json"  # JSON is YAML
    written.write_text(json.dumps(_config(port, upstream)))
    command = [
        *under,
        find_envoy(),
        "--concurrency",
        "1",
        "-c",
        str(written),
        "--log-level",
        "warning",
        "--disable-hot-restart",
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, folder / "plain-envoy.log") as program:

        def answers() -> bool:
            program.check()
            with Connection(url) as client:
                return client.get("/ping").status == 200

        until(answers, 30, "the plain Envoy answers")
        yield url, program


def _config(port: int, upstream: Path) -> dict[str, Any]:
    manager = {
        "@type": _HTTP,
        "stat_prefix": "plain",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "replica"}}],
                }
            ]
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
    }
    listener = {
        "name": "plain",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    where = {"endpoint": {"address": {"pipe": {"path": str(upstream)}}}}
    cluster = {
        "name": "replica",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "replica", "endpoints": [{"lb_endpoints": [where]}]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
