"""What Wye talks about, as frozen values. Imports nothing of ours, does no I/O, knows neither JSON nor Envoy."""

from controlplane.domain.config import (
    Endpoint,
    EndpointConfig,
    EntitySpec,
    LimitKey,
    Outcome,
    PastConfig,
    RateLimit,
    ServedEntity,
    Tag,
    TrafficRoute,
    UpdateState,
    WorkloadSize,
)
from controlplane.domain.delivery import EnvoyStatus, Rejection, TypeStatus, Verdict
from controlplane.domain.fleet import Address, Deployment, Phase, Replica, ReplicaSpec
from controlplane.domain.problem import Problem, ProblemCode, ProblemError

__all__ = [
    "Address",
    "Deployment",
    "Endpoint",
    "EndpointConfig",
    "EntitySpec",
    "EnvoyStatus",
    "LimitKey",
    "Outcome",
    "PastConfig",
    "Phase",
    "Problem",
    "ProblemCode",
    "ProblemError",
    "RateLimit",
    "Rejection",
    "Replica",
    "ReplicaSpec",
    "ServedEntity",
    "Tag",
    "TrafficRoute",
    "TypeStatus",
    "UpdateState",
    "Verdict",
    "WorkloadSize",
]
