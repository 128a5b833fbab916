"""A real control plane and a real Envoy with as many endpoints as are asked for, whose replicas are one tiny upstream."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import insert

from benchmarks import fake_host
from benchmarks.client import Connection, settled
from benchmarks.models import BODY
from benchmarks.programs import Program, plain_environment, until
from controlplane import keys
from controlplane.domain import ADMINS, GROUPS_HEADER, USER_HEADER, Endpoint, EntitySpec, TrafficRoute, membership
from controlplane.rollout import lifecycle
from controlplane.settings import Settings
from controlplane.store.codec import encode_config, encode_endpoint
from controlplane.store.database import open_database
from controlplane.store.tables import config_versions, endpoints
from controlplane.up import envoy
from controlplane.up.preflight import find_envoy, free_port

SPECS = (EntitySpec("a", "linear", "1"), EntitySpec("b", "other", "1"))
#: What Envoy says of the admin to the control plane.
_AS_ADMIN = {USER_HEADER: keys.ADMIN, GROUPS_HEADER: membership((ADMINS,))}


class Plane:
    """`count` endpoints of two entities each, split 100/0; 0 threads of Envoy are as many as Wye gives it by default."""

    def __init__(self, folder: Path, count: int, *, envoy_threads: int = 1, no_auth: bool = False) -> None:
        self.count = count
        self.names = [f"endpoint-{number:05}" for number in range(count)]
        settings = Settings.read({}, state_dir=folder, port=0, envoy_concurrency=envoy_threads, no_auth=no_auth)
        for each in (settings.state_dir, settings.run_dir, settings.log_dir):
            each.mkdir(mode=0o700, parents=True)
        self.settings = replace(settings, port=free_port(settings))
        self.token = keys.load_or_make(folder / "keys").admin_token
        self.url = f"http://127.0.0.1:{self.settings.port}"
        #: The command that Envoy is run under, such as Valgrind's; none.
        self.under: list[str] = []
        self.upstream_socket = self.settings.run_dir / "upstream.sock"
        self._hello = self.settings.run_dir / "hello.json"
        self._programs = ExitStack()
        self._restarts = 0
        self._fill()

    def _fill(self) -> None:
        filled = [_endpoint(number, name) for number, name in enumerate(self.names)]
        self._hello.write_text(json.dumps(fake_host.hello(filled, self.upstream_socket)))
        rows = [{"id": e.id, "name": e.name, "revision": e.revision, "document": encode_endpoint(e)} for e in filled]
        versions = [
            {"endpoint_id": e.id, "version": e.active.version, "document": encode_config(e.active)}
            for e in filled
            if e.active
        ]
        engine = open_database(self.settings.database_url)
        with engine.begin() as connection:
            connection.execute(insert(endpoints), rows)
            connection.execute(insert(config_versions), versions)
        engine.dispose()

    def __enter__(self) -> Self:
        host = self.settings.worker_host_address.removeprefix("unix:")
        self.upstream = self._run("upstream", "-m", "benchmarks.upstream", str(self.upstream_socket))
        self._run("host", "-m", "benchmarks.fake_host", host, str(self._hello), str(self.upstream_socket))
        until(lambda: self.upstream_socket.exists() and Path(host).exists(), 30, "upstream and worker host listen")
        self.start_control_plane()
        self.until_api_answers()
        self.envoy = Program(
            [*self.under, *envoy.command(find_envoy(), self.settings, envoy.write_bootstrap(self.settings))],
            self.settings.log_dir / "envoy.log",
        )
        self._programs.callback(self.envoy.stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.control_plane.stop()
        self._programs.close()

    def _run(self, name: str, *arguments: str) -> Program:
        program = Program([sys.executable, *arguments], self.settings.log_dir / f"{name}.log", plain_environment())
        self._programs.callback(program.stop)
        return program

    def start_control_plane(self) -> None:
        self.control_plane = Program(
            [sys.executable, "-m", "controlplane"],
            self.settings.log_dir / "controlplane.log",
            plain_environment(**self.settings.environment()),
        )

    def api(self) -> Connection:
        """A connection to the control plane's own socket, which Envoy has no part in."""
        return Connection(Path(self.settings.api_address.removeprefix("unix:")), headers=_AS_ADMIN)

    def until_api_answers(self) -> None:
        """Return when an endpoint is answered with, by this control plane and not by a former one."""

        def answers() -> bool:
            self.control_plane.check()
            with self.api() as api:
                return api.get(f"/api/2.0/serving-endpoints/{self.names[-1]}").status == 200

        until(answers, 300, "the API answers")

    def until_serving(self) -> None:
        """Return when Envoy serves the last endpoint by the split, and has every cluster."""
        clusters = 2 * self.count

        def serves() -> bool:
            self.control_plane.check()
            self.envoy.check()
            with Connection(envoy.admin_socket(self.settings)) as admin:
                text = admin.get("/stats?filter=^cluster_manager.(active_clusters|warming_clusters)$").body.decode()
            gauges = {name: int(value) for name, value in (line.split(": ") for line in text.splitlines())}
            if gauges["cluster_manager.active_clusters"] < clusters or gauges["cluster_manager.warming_clusters"]:
                return False
            with Connection(self.url, self.token) as client:
                path = f"/serving-endpoints/{self.names[-1]}/invocations"
                return client.send(client.prepare("POST", path, BODY.encode())).status == 200

        until(serves, 300, "Envoy serves the last endpoint", pause=0.02)

    def sent(self) -> dict[str, int]:
        """How many resources of each type the connected Envoy was sent on its present stream."""
        with self.api() as api:
            status: dict[str, Any] = api.get("/api/2.0/wye/status").json()
        (connected,) = [each for each in status["envoys"] if each["connected"]]
        return {each["type_url"].rsplit(".", 1)[1]: each["resources_sent"] for each in connected["types"]}

    def envoy_allocated(self) -> int:
        """Bytes that Envoy has allocated, by its own account."""
        with Connection(envoy.admin_socket(self.settings)) as admin:
            return int(admin.get("/memory").json()["allocated"])

    def restart(self) -> tuple[float, float]:
        """Kill the control plane and start another: seconds until its API answers, and until Envoy is in sync with it.

        In sync means: new weights that are put as soon as the API answers are applied, which the endpoint says only
        when Envoy has acknowledged all that concerns it on the new stream.
        """
        self._restarts += 1
        self.control_plane.kill()
        os.unlink(self.settings.api_address.removeprefix("unix:"))
        began = time.monotonic()
        self.start_control_plane()
        self.until_api_answers()
        answering = time.monotonic() - began
        with self.api() as api:
            weights(api, self.names[-1], 50 + self._restarts)
            settled(api, self.names[-1], 300)
        return answering, time.monotonic() - began


def weights(api: Connection, endpoint: str, share: int) -> None:
    """Put new weights: `share` for the first entity, the rest for the second."""
    document = {
        "served_entities": [
            {"name": spec.name, "entity_name": spec.entity_name, "entity_version": spec.entity_version}
            for spec in SPECS
        ],
        "traffic_config": {
            "routes": [
                {"served_model_name": "a", "traffic_percentage": share},
                {"served_model_name": "b", "traffic_percentage": 100 - share},
            ]
        },
    }
    answer = api.put(f"/api/2.0/serving-endpoints/{endpoint}/config", document)
    assert answer.status == 200, answer


def _endpoint(number: int, name: str) -> Endpoint:
    now_ms = 1_700_000_000_000
    empty = lifecycle.create(endpoint_id=f"{number:08x}{0:024x}", name=name, creator="admin", now_ms=now_ms)
    artifacts = {(spec.entity_name, spec.entity_version): f"/models/{spec.entity_name}" for spec in SPECS}
    split = (TrafficRoute("a", 100), TrafficRoute("b", 0))
    begun = lifecycle.begin_update(empty, SPECS, split, artifacts, creator="admin", now_ms=now_ms)
    return lifecycle.succeed(begun, now_ms)
