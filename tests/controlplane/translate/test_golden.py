"""Endpoints as a user posts them → every xDS resource they become, compared with files that people can read.

A case is a folder of tests/golden: `endpoints.yaml` (create bodies, updates still in progress, grants as
`user_name alice CAN_QUERY`, limits as `10 user alice`) and `fleet.yaml`. Its
other files are expected output; `pytest --update-golden` rewrites them, and removes those that are no longer given.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.domain import (
    Address,
    Deployment,
    Endpoint,
    Grant,
    LimitKey,
    Permission,
    Phase,
    PrincipalKind,
    ProblemError,
    RateLimit,
    Replica,
)
from controlplane.rollout import lifecycle
from controlplane.rollout.routing import route
from controlplane.rollout.state import Observed, Options, replica_id
from controlplane.schema.parse import ConfigRequest, parse_config, parse_create
from controlplane.translate.gateway import Gateway
from controlplane.translate.resource import Resource
from controlplane.translate.translate import translate_endpoint, translate_gateway

GOLDEN = Path(__file__).parents[2] / "golden"
GATEWAY = Gateway(
    public=Address(host="127.0.0.1", port=8080), api=(Address(path="/run/wye/api.sock"),), jwks="<key set>"
)
FILES = {
    "Cluster": "clusters.yaml",
    "ClusterLoadAssignment": "assignments.yaml",
    "Listener": "listeners.yaml",
    "RouteConfiguration": "routes.yaml",
    "ScopedRouteConfiguration": "scopes.yaml",
}


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_translation_gives_what_the_golden_files_hold(case: str, request: pytest.FixtureRequest) -> None:
    """The same endpoints and fleet always give these resources, and nothing else."""
    folder = GOLDEN / case
    given = _translated(folder)
    inputs = {"endpoints.yaml", "fleet.yaml"}
    if request.config.getoption("--update-golden"):
        for file in folder.iterdir():
            if file.name not in inputs | given.keys():
                file.unlink()
        for name, content in given.items():
            (folder / name).write_text(yaml.safe_dump(content, width=120))
    expected = {file.name: yaml.safe_load(file.read_text()) for file in folder.iterdir() if file.name not in inputs}
    assert given == expected


def test_translating_twice_gives_the_same_bytes() -> None:
    """Versions are hashes of the bytes, so equal input must give equal bytes."""
    first, second = ([resource.body for resource in translate_gateway(GATEWAY)] for _ in range(2))
    assert first == second


def _translated(folder: Path) -> dict[str, Any]:
    try:
        endpoints = [
            _endpoint(number, spec)
            for number, spec in enumerate(yaml.safe_load((folder / "endpoints.yaml").read_text()))
        ]
    except ProblemError as error:
        return {"problems.yaml": [f"{p.code.code} at {p.path}: {p.message}" for p in error.problems]}
    replicas = (
        [_replica(endpoints, spec) for spec in yaml.safe_load((folder / "fleet.yaml").read_text())]
        if (folder / "fleet.yaml").exists()
        else []
    )
    resources: list[Resource] = [] if endpoints else list(translate_gateway(GATEWAY))
    for endpoint in endpoints:
        observed = Observed(tuple(r for r in replicas if r.deployment.endpoint_id == endpoint.id), {})
        routing = route(endpoint.name, endpoint, observed, None, now=0.0, options=Options())
        resources += translate_endpoint(routing.view, GATEWAY)
    out: dict[str, dict[str, Any]] = {}
    for resource in resources:
        package, _, kind = resource.type_url.removeprefix("type.googleapis.com/").rpartition(".")
        message = getattr(importlib.import_module(f"envoy_data_plane.{package}"), kind)
        out.setdefault(FILES[kind], {})[resource.name] = message.parse(resource.body).to_dict()
    return dict(out)


def _endpoint(number: int, spec: dict[str, Any]) -> Endpoint:
    asked = parse_create(spec["create"])
    limits = [line.split(" ") for line in spec.get("limits", ())]
    endpoint = lifecycle.create(
        endpoint_id=f"{number:032x}",
        name=asked.name,
        creator="me",
        now_ms=0,
        rate_limits=[RateLimit(int(calls), LimitKey(key), *who) for calls, key, *who in limits],
    )
    endpoint = replace(endpoint, grants=tuple(_grant(*line.split(" ")) for line in spec.get("grants", ())))
    if asked.config is not None:
        endpoint = _begin(endpoint, asked.config)
        if spec.get("deployed", True):
            endpoint = lifecycle.succeed(endpoint, 0)
    if "update" in spec:
        endpoint = _begin(endpoint, parse_config(spec["update"]))
    return endpoint


def _grant(kind: str, name: str, permission: str) -> Grant:
    return Grant(PrincipalKind(kind), name, Permission(permission))


def _begin(endpoint: Endpoint, config: ConfigRequest) -> Endpoint:
    artifacts = {(spec.entity_name, spec.entity_version): "file:///model" for spec in config.entities}
    return lifecycle.begin_update(endpoint, config.entities, config.traffic, artifacts, creator="me", now_ms=0)


def _replica(endpoints: list[Endpoint], spec: dict[str, Any]) -> Replica:
    owner = next(endpoint for endpoint in endpoints if endpoint.name == spec["endpoint"])
    where = Deployment(owner.id, spec["entity"], spec.get("generation", 1))
    return Replica(
        id=replica_id(where, spec.get("slot", 0)),
        deployment=where,
        phase=Phase(spec.get("phase", "READY")),
        address=Address(path=spec["socket"]) if "socket" in spec else Address(host="10.0.0.7", port=spec["port"]),
        holds_connections=spec.get("holds_connections", False),
    )
