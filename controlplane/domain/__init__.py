"""What Wye talks about, as frozen values. Imports nothing of ours, does no I/O, knows neither JSON nor Envoy."""

from controlplane.domain.access import (
    ADMINS,
    MONITORS,
    Audience,
    Caller,
    Grant,
    Permission,
    PrincipalKind,
    audience,
    permission_of,
)
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
from controlplane.domain.fleet import Address, Deployment, Machine, Phase, Replica, ReplicaSpec
from controlplane.domain.problem import Problem, ProblemCode, ProblemError
from controlplane.domain.secret import SecretAcl, SecretInfo, SecretPermission, secret_reference
from controlplane.domain.token import Token

__all__ = [
    "ADMINS",
    "MONITORS",
    "Address",
    "Audience",
    "Caller",
    "Deployment",
    "Endpoint",
    "EndpointConfig",
    "EntitySpec",
    "EnvoyStatus",
    "Grant",
    "LimitKey",
    "Machine",
    "Outcome",
    "PastConfig",
    "Permission",
    "Phase",
    "PrincipalKind",
    "Problem",
    "ProblemCode",
    "ProblemError",
    "RateLimit",
    "Rejection",
    "Replica",
    "ReplicaSpec",
    "SecretAcl",
    "SecretInfo",
    "SecretPermission",
    "ServedEntity",
    "Tag",
    "Token",
    "TrafficRoute",
    "TypeStatus",
    "UpdateState",
    "Verdict",
    "WorkloadSize",
    "audience",
    "permission_of",
    "secret_reference",
]
