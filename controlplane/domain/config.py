"""Endpoints and their configs: what users ask for, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from controlplane.domain.access import Audience, Grant, audience


class WorkloadSize(StrEnum):
    """A named range of provisioned concurrency; one unit is one request at a time."""

    SMALL = "Small"
    MEDIUM = "Medium"
    LARGE = "Large"


class UpdateState(StrEnum):
    """Where the latest config update stands; the strings are the API's."""

    NOT_UPDATING = "NOT_UPDATING"
    IN_PROGRESS = "IN_PROGRESS"
    UPDATE_FAILED = "UPDATE_FAILED"
    UPDATE_CANCELED = "UPDATE_CANCELED"


@dataclass(frozen=True, slots=True)
class Tag:
    """A key and a value that users attach to an endpoint."""

    key: str
    value: str = ""


class LimitKey(StrEnum):
    """Whose calls a rate limit counts; the strings are the API's."""

    #: All calls of the endpoint together.
    ENDPOINT = "endpoint"
    #: Each user's own, or one user's when the limit names a principal.
    USER = "user"
    #: All calls of a group's members together.
    USER_GROUP = "user_group"
    SERVICE_PRINCIPAL = "service_principal"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `calls` a minute."""

    calls: int
    key: LimitKey = LimitKey.ENDPOINT
    #: The user, group or service principal that is meant; "" for all alike.
    principal: str = ""


@dataclass(frozen=True, slots=True)
class EntitySpec:
    """A served entity as the user asked for it, defaults filled in."""

    name: str
    entity_name: str
    #: A number; "" only in a request that names an alias which has not been looked up yet.
    entity_version: str
    workload_size: WorkloadSize | None = WorkloadSize.SMALL
    workload_type: str = "CPU"
    scale_to_zero_enabled: bool = False
    min_provisioned_concurrency: int | None = None
    max_provisioned_concurrency: int | None = None
    environment_vars: tuple[tuple[str, str], ...] = ()
    #: The registered model's alias that `entity_version` was looked up by, "" when a number was asked for.
    alias: str = ""
    #: Accepted, kept and echoed, without a meaning here: (field, canonical JSON text), sorted by field.
    echoed: tuple[tuple[str, str], ...] = ()

    def shares_replicas(self, other: EntitySpec) -> bool:
        """True when the other one's replicas are as many as this one asks for at least, and are made and kept the same way."""
        return self.is_made_as(other) and (self.name, *self._kept()) == (other.name, *other._kept())

    def is_made_as(self, other: EntitySpec) -> bool:
        """True when the other one's replicas run the same model in the same environment."""
        return self._made_of() == other._made_of()

    def _made_of(self) -> tuple[object, ...]:
        return self.entity_name, self.entity_version, self.environment_vars

    def _kept(self) -> tuple[object, ...]:
        least, _ = self.concurrency
        return least, self.workload_size or WorkloadSize.SMALL  # the size says what each may take of its machine

    @property
    def concurrency(self) -> tuple[int, int]:
        """Least and most units of provisioned concurrency that are wanted, scale to zero apart."""
        if self.workload_size is None:
            least = self.min_provisioned_concurrency or 4
            return least, max(least, self.max_provisioned_concurrency or least)
        return {WorkloadSize.SMALL: (4, 4), WorkloadSize.MEDIUM: (8, 16), WorkloadSize.LARGE: (16, 64)}[
            self.workload_size
        ]


@dataclass(frozen=True, slots=True)
class ServedEntity:
    """A spec together with what the server added when it accepted it."""

    spec: EntitySpec
    #: The config version in which this entity first had this spec; with the endpoint's id and the name it identifies
    #: its replicas and its Envoy cluster. An entity equal to the active one keeps the generation, hence its replicas.
    generation: int
    #: Where the model's files are, as resolved when the config was accepted (a path or a URI that MLflow can load).
    artifact_uri: str
    creator: str
    created_ms: int

    @property
    def name(self) -> str:
        """The served entity's name, unique in its config."""
        return self.spec.name


@dataclass(frozen=True, slots=True)
class TrafficRoute:
    """One line of a traffic split."""

    served_entity: str
    percent: int


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One accepted config version: entities in the order submitted, and a split that adds up to 100."""

    version: int
    entities: tuple[ServedEntity, ...]
    traffic: tuple[TrafficRoute, ...]
    started_ms: int
    #: Accepted, kept and echoed with the config: (field, canonical JSON text), sorted by field.
    echoed: tuple[tuple[str, str], ...] = ()
    #: Who asked for it; "" in what an older release stored.
    creator: str = ""

    def entity(self, name: str) -> ServedEntity | None:
        """The entity of that name, or None."""
        return next((entity for entity in self.entities if entity.name == name), None)


@dataclass(frozen=True, slots=True)
class PastConfig:
    """A config version of the history, and what became of it."""

    config: EndpointConfig
    #: IN_PROGRESS until it ended; then NOT_UPDATING when it took the traffic, else why it did not.
    result: UpdateState
    ended_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pending entity ended when its update failed; kept with the endpoint so that the reason survives restarts."""

    served_entity: str
    #: True for the entity at fault, False for one that was given up because of another.
    failed: bool
    message: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A serving endpoint: its active config, the pending one if an update is under way or failed, and its settings."""

    id: str
    name: str
    creator: str
    created_ms: int
    updated_ms: int
    update: UpdateState
    active: EndpointConfig | None = None
    pending: EndpointConfig | None = None
    outcomes: tuple[Outcome, ...] = ()
    description: str = ""
    tags: tuple[Tag, ...] = ()
    route_optimized: bool = False
    #: True while its owner has stopped it: no replicas, and queries are refused.
    suspended: bool = False
    #: Who may do what, besides the creator and admins, who may do everything.
    grants: tuple[Grant, ...] = ()
    #: Those of the deprecated call, which GET does not show.
    rate_limits: tuple[RateLimit, ...] = ()
    #: Those of the AI gateway, whose settings are among `echoed` as they were sent.
    gateway_limits: tuple[RateLimit, ...] = ()
    #: Accepted, kept and echoed at the endpoint's top level: (field, canonical JSON text), sorted by field.
    echoed: tuple[tuple[str, str], ...] = ()
    #: Counts stored changes of this endpoint; the store refuses a write that was made from an older one.
    revision: int = field(default=0)

    @property
    def may_query(self) -> Audience:
        """Who may make predictions."""
        return audience(self.creator, self.grants)

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        """All rate limits that calls of this endpoint are held to."""
        return (*self.rate_limits, *self.gateway_limits)

    @property
    def latest_version(self) -> int:
        """The highest config version among active and pending, 0 when there is none."""
        return max(self.active.version if self.active else 0, self.pending.version if self.pending else 0)
