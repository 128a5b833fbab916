"""What the API needs from the rest of the control plane; built in `app.py`, or by a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from controlplane.clock import Clock
from controlplane.domain import Endpoint, Replica, Token
from controlplane.domain.measurement import EntityMeasurement, FleetView, LogKind
from controlplane.keys import Signer
from controlplane.registry import ModelRegistry
from controlplane.store import Endpoints, Secrets, Store, Tokens


def hex_id() -> str:
    """A new endpoint id: 32 hex digits, as the clients expect."""
    return uuid4().hex


def _at_once(_endpoint: Endpoint) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Auth:
    """What the API needs to make and revoke tokens."""

    signer: Signer
    tokens: Tokens
    #: The token that `wye up` uses itself.
    admin: Token
    #: Tells every Envoy which tokens are revoked; answers who does not know yet, "" when all do.
    announce: Callable[[], str]


def _no_replicas(_endpoint_id: str) -> tuple[Replica, ...]:
    return ()


def _no_logs(_replica_id: str, _lines: int, _kind: LogKind) -> str:
    return ""


def _no_measurements(_endpoint: Endpoint, _replicas: tuple[Replica, ...]) -> tuple[EntityMeasurement, ...]:
    return ()


def _no_status() -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything the API reads, writes and calls."""

    store: Store
    #: Reads come from its cell; writes go through it, so the very next read shows them.
    endpoints: Endpoints
    registry: ModelRegistry
    clock: Clock
    #: The replicas of one endpoint, by endpoint id; must not cost more when other endpoints have many.
    replicas_of: Callable[[str], tuple[Replica, ...]] = _no_replicas
    #: The last lines of a replica's log, also of one that is gone; may raise ProblemError (TEMPORARILY_UNAVAILABLE).
    logs: Callable[[str, int, LogKind], str] = _no_logs
    #: What is known of the load of an endpoint's served entities; may raise ProblemError (TEMPORARILY_UNAVAILABLE).
    measurements: Callable[[Endpoint, tuple[Replica, ...]], tuple[EntityMeasurement, ...]] = _no_measurements
    #: What `GET /api/2.0/wye/metrics` tells, endpoints excepted.
    fleet: Callable[[], FleetView] = FleetView
    #: What `GET /api/2.0/wye/status` answers: must be JSON.
    status: Callable[[], Mapping[str, object]] = _no_status
    new_id: Callable[[], str] = hex_id
    #: None: there are no tokens, and everybody is the admin.
    auth: Auth | None = None
    #: None: there is no place for secrets.
    secrets: Secrets | None = None
    #: Hears the scope and the key of a secret that has another value now.
    secret_changed: Callable[[str, str], None] = lambda _scope, _key: None
    #: Waits until every Envoy keeps to the endpoint's permissions, limits and stop; answers who does not yet, "" when all do.
    undelivered: Callable[[Endpoint], str] = _at_once
    #: What clients are told to be in; digits.
    workspace_id: str = "1"
