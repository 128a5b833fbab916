"""The API on a real store, with a registry that holds what the test puts there, and updates that end when it says so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from flask.testing import FlaskClient

from controlplane.api import Deps, create_app
from controlplane.api.deps import Auth
from controlplane.clock import FakeClock
from controlplane.domain import Deployment, Endpoint, Grant, Outcome, Phase, Replica, membership
from controlplane.registry import FakeRegistry
from controlplane.rollout import lifecycle
from controlplane.store import Endpoints, Store
from controlplane.watch import WatchedMap

PATH = "/api/2.0/serving-endpoints"


class Api:
    """The API under test, and what stands behind it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.endpoints = Endpoints(store, WatchedMap())
        self.registry = FakeRegistry({"churn": {"3": "/m/3", "4": "/m/4", "5": "/m/5"}})
        self.clock = FakeClock()
        self.replicas: dict[str, tuple[Replica, ...]] = {}
        self.deps = Deps(
            store=store,
            endpoints=self.endpoints,
            registry=self.registry,
            clock=self.clock,
            replicas_of=lambda endpoint_id: self.replicas.get(endpoint_id, ()),
            status=lambda: {"envoys": []},
        )
        self.app = create_app(self.deps)
        self.client: FlaskClient = self.app.test_client()

    def with_auth(self, auth: Auth) -> Deps:
        """What the API needs when there are tokens."""
        return replace(self.deps, auth=auth)

    def succeed(self, name: str) -> None:
        """Let the update that is in progress succeed, with a ready replica for each entity."""
        endpoint = self.endpoints.get(name)
        assert endpoint is not None
        finished = lifecycle.succeed(endpoint, self.clock.now_ms())
        assert finished.active is not None
        self.replicas[endpoint.id] = tuple(
            Replica(entity.name, Deployment(endpoint.id, entity.name, entity.generation), Phase.READY)
            for entity in finished.active.entities
        )
        self.endpoints.save(finished)

    def fail(self, name: str, message: str) -> None:
        """Let the update that is in progress fail."""
        endpoint = self.endpoints.get(name)
        assert endpoint is not None
        assert endpoint.pending is not None
        outcomes = [Outcome(entity.name, failed=True, message=message) for entity in endpoint.pending.entities]
        self.endpoints.save(lifecycle.fail(endpoint, outcomes, self.clock.now_ms()))


def config(current: int = 90, version: str = "4") -> dict[str, Any]:
    """A config of two served entities, with this share for the first and this version of the second."""
    return {
        "served_entities": [
            {"name": "current", "entity_name": "churn", "entity_version": "3"},
            {"name": "challenger", "entity_name": "churn", "entity_version": version},
        ],
        "traffic_config": {
            "routes": [
                {"served_model_name": "current", "traffic_percentage": str(current)},
                {"served_model_name": "challenger", "traffic_percentage": 100 - current},
            ]
        },
    }


@dataclass
class Guarded:
    """The API with tokens on, and requests as Envoy passes them on."""

    api: Api
    client: FlaskClient
    announced: list[str]

    def call(self, method: str, path: str, user: str = "admin", groups: list[str] | None = None, **more: Any) -> Any:
        """A call by a user; by an admin unless somebody else is named."""
        groups = groups if groups is not None else ["admins"] if user == "admin" else []
        name = user.encode().decode("latin-1")
        headers = {"x-wye-user": name, "x-wye-groups": membership(tuple(groups))}
        return self.client.open(path, method=method, headers=headers, **more)

    def endpoint(self, grants: tuple[Grant, ...] = (), name: str = "e") -> Endpoint:
        """A new endpoint that the user `owner` made."""
        present = self.api.endpoints.get(name)
        if present is not None:
            self.api.endpoints.delete(present)
        made = lifecycle.create(endpoint_id=name * 32, name=name, creator="owner", now_ms=1)
        made = replace(made, grants=grants)
        self.api.endpoints.insert(made)
        return made
