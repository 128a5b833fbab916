"""How far an update is: its steps, and what each waits for. Values in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.domain import Endpoint, Replica, UpdateState
from controlplane.rollout.state import Published
from controlplane.schema.status import DeploymentState, pending_status


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an update."""

    title: str
    #: done, busy, failed or todo
    state: str
    text: str = ""


def steps(endpoint: Endpoint, replicas: Sequence[Replica], published: Published | None) -> tuple[Step, ...]:
    """The steps of the latest update; none when the endpoint is not being updated and the last one did not fail."""
    config = endpoint.pending
    if config is None or endpoint.update not in {UpdateState.IN_PROGRESS, UpdateState.UPDATE_FAILED}:
        return ()
    said = [pending_status(endpoint, entity, replicas) for entity in config.entities]
    ready = sum(each.state is DeploymentState.READY for each in said)
    answering = ready == len(said)
    in_routes = published is not None and published.version == config.version
    counted = f"{ready} of {len(said)} served models answer"
    if endpoint.update is UpdateState.UPDATE_FAILED:
        told = next((each.message for each in said if each.state is DeploymentState.FAILED), "")
        return (
            Step("Accepted", "done", f"version {config.version}"),
            Step("Replicas and Envoy", "failed", told),
            Step("In force", "todo", "what served before goes on serving"),
        )
    waiting = ""
    if answering and published is not None:
        waiting = published.rejected or published.waiting
    return (
        Step("Accepted", "done", f"version {config.version}"),
        Step("Replicas", "done" if answering else "busy", counted),
        Step(
            "Clusters in Envoy", "done" if in_routes else "busy" if answering else "todo", "" if in_routes else waiting
        ),
        Step("Routes in Envoy", "busy" if in_routes else "todo", waiting if in_routes else ""),
        Step("In force", "todo", "once every Envoy has acknowledged it"),
    )
