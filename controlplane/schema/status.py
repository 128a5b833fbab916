"""What the API says of an endpoint's and its served entities' condition, decided from values alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from controlplane.domain import Deployment, Endpoint, Phase, Replica, ServedEntity, UpdateState

CREATING = "Creating resources for served entity."
RECOVERING = "No replica is running; one will be started."
#: So many failures in a row are no accident; it is tried on and on, because what is in its way may pass.
KEEPS_CRASHING = 3
CRASHING = "It has failed {times} times in a row and is tried again at least each minute. Last words: {words}"
ABORTED = "Served model creation aborted because the endpoint update did not succeed."
CANCELED = "Served model creation aborted because the endpoint update was canceled."
#: Still READY: the next request starts a replica, and waits for it.
ASLEEP = "Scaled to zero"
STOPPED = "The endpoint is stopped; config:start starts it."


class DeploymentState(StrEnum):
    """A served entity's condition; the strings are the API's."""

    CREATING = "DEPLOYMENT_CREATING"
    RECOVERING = "DEPLOYMENT_RECOVERING"
    READY = "DEPLOYMENT_READY"
    FAILED = "DEPLOYMENT_FAILED"
    ABORTED = "DEPLOYMENT_ABORTED"


@dataclass(frozen=True, slots=True)
class EntityStatus:
    """A served entity's condition and the reason, in words."""

    state: DeploymentState
    message: str = ""


READY = EntityStatus(DeploymentState.READY)


def active_status(endpoint: Endpoint, entity: ServedEntity, replicas: Iterable[Replica]) -> EntityStatus:
    """The condition of an entity of the active config: READY as long as one replica is."""
    if endpoint.suspended:
        return EntityStatus(DeploymentState.ABORTED, STOPPED)
    mine = _replicas_of(endpoint, entity, replicas)
    if _any_ready(mine):
        return EntityStatus(DeploymentState.READY, mine[0].note)
    if any(replica.phase is Phase.ASLEEP for replica in mine):
        return EntityStatus(DeploymentState.READY, ASLEEP)
    worst = max(mine, key=lambda replica: replica.crashes, default=None)
    if worst is not None and worst.crashes >= KEEPS_CRASHING:
        return EntityStatus(DeploymentState.FAILED, CRASHING.format(times=worst.crashes, words=worst.last_words))
    return EntityStatus(DeploymentState.RECOVERING, _last_words(mine) or RECOVERING)


def pending_status(endpoint: Endpoint, entity: ServedEntity, replicas: Iterable[Replica]) -> EntityStatus:
    """The condition of an entity of the pending config: how far it is, or how it ended when the update failed."""
    outcome = next((outcome for outcome in endpoint.outcomes if outcome.served_entity == entity.name), None)
    if outcome is not None:
        state = DeploymentState.FAILED if outcome.failed else DeploymentState.ABORTED
        return EntityStatus(state, outcome.message or ABORTED)
    if endpoint.update is UpdateState.UPDATE_CANCELED:
        return EntityStatus(DeploymentState.ABORTED, CANCELED)
    mine = _replicas_of(endpoint, entity, replicas)
    if _any_ready(mine):
        return READY
    if endpoint.update is UpdateState.IN_PROGRESS:
        return EntityStatus(DeploymentState.CREATING, _last_words(mine) or CREATING)
    return EntityStatus(DeploymentState.ABORTED, ABORTED)


def is_ready(endpoint: Endpoint, replicas: Iterable[Replica]) -> bool:
    """Whether every entity of the active config serves; says nothing of the pending one."""
    config = endpoint.active
    if config is None or endpoint.suspended:
        return False
    ready = {replica.deployment for replica in replicas if replica.phase in {Phase.READY, Phase.ASLEEP}}
    return all(_deployment(endpoint, entity) in ready for entity in config.entities)


def _deployment(endpoint: Endpoint, entity: ServedEntity) -> Deployment:
    return Deployment(endpoint.id, entity.name, entity.generation)


def _replicas_of(endpoint: Endpoint, entity: ServedEntity, replicas: Iterable[Replica]) -> list[Replica]:
    deployment = _deployment(endpoint, entity)
    return [replica for replica in replicas if replica.deployment == deployment]


def _any_ready(replicas: Iterable[Replica]) -> bool:
    return any(replica.phase is Phase.READY for replica in replicas)


def _last_words(replicas: Iterable[Replica]) -> str:
    """The message that says most: a failed replica's before a starting one's."""
    telling = [replica for replica in replicas if replica.message and replica.phase is not Phase.STOPPING]
    telling.sort(key=lambda replica: (replica.phase is not Phase.FAILED, replica.id))
    return telling[0].message if telling else ""
