"""Transitions of an endpoint, as values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.domain import Outcome, ProblemCode, ProblemError, UpdateState, WorkloadSize
from controlplane.rollout import lifecycle
from controlplane.rollout.routing import route
from controlplane.rollout.state import wanted_entities
from tests.controlplane.rollout.builders import (
    NOW,
    NOW_MS,
    OPTIONS,
    active,
    begin,
    empty,
    observed,
    replicas,
    specs,
    split,
)


def test_a_first_update_is_pending_and_leaves_no_active_config() -> None:
    """A created endpoint has its first config pending as version 1, and nothing active."""
    endpoint = begin(empty(), specs(m="1"))
    assert endpoint.active is None
    assert endpoint.pending is not None
    assert (endpoint.pending.version, endpoint.update, endpoint.revision) == (1, UpdateState.IN_PROGRESS, 1)


def test_equal_entities_keep_their_generation() -> None:
    """An entity that an update leaves as it is keeps its generation, a changed one gets the new version's."""
    endpoint = begin(active(kept="1", changed="1"), specs(kept="1", changed="2"))
    assert endpoint.pending is not None
    assert {entity.name: entity.generation for entity in endpoint.pending.entities} == {"kept": 1, "changed": 2}


@pytest.mark.parametrize(
    ("after", "generation"),
    [
        ({"workload_size": None, "min_provisioned_concurrency": 4, "max_provisioned_concurrency": 40}, 1),
        ({"scale_to_zero_enabled": True}, 1),
        ({"workload_size": WorkloadSize.MEDIUM}, 2),
        ({"environment_vars": (("A", "1"),)}, 2),
    ],
    ids=["more at most", "sleep", "a larger size", "another environment"],
)
def test_replicas_are_kept_when_they_would_be_made_the_same(after: dict[str, Any], generation: int) -> None:
    """The size decides what each may take of its machine, so that replicas of another one are other replicas."""
    (entity,) = specs(m="1")
    endpoint = begin(active(m="1"), [replace(entity, **after)])
    assert endpoint.pending is not None
    assert [each.generation for each in endpoint.pending.entities] == [generation]


def test_a_changed_artifact_is_another_generation() -> None:
    """The same version whose files moved is not the same entity."""
    before = active(m="1")
    after = lifecycle.begin_update(
        before, specs(m="1"), split(m=100), {("churn", "1"): "/elsewhere"}, creator="me", now_ms=NOW_MS
    )
    assert after.pending is not None
    assert after.pending.entities[0].generation == 2


def test_an_update_during_an_update_is_a_conflict() -> None:
    """One update at a time; the second is refused with RESOURCE_CONFLICT and says what to do."""
    with pytest.raises(ProblemError, match="wait until") as refusal:
        begin(begin(active(m="1"), specs(m="2")), specs(m="3"))
    assert refusal.value.code is ProblemCode.RESOURCE_CONFLICT


def test_success_makes_the_pending_config_active() -> None:
    """After success there is no pending config, and the version that was pending is active."""
    endpoint = lifecycle.succeed(begin(active(m="1"), specs(m="2")), NOW_MS)
    assert endpoint.active is not None
    assert (endpoint.active.version, endpoint.pending, endpoint.update) == (2, None, UpdateState.NOT_UPDATING)


def test_failure_keeps_the_active_config_and_the_pending_one_for_diagnosis() -> None:
    """A failed update changes nothing that serves; what was tried and why it failed stays to be read."""
    before = active(m="1")
    outcome = Outcome("m", failed=True, message="ValueError: no")
    endpoint = lifecycle.fail(begin(before, specs(m="2")), [outcome], NOW_MS)
    assert endpoint.active == before.active
    assert endpoint.pending is not None
    assert (endpoint.update, endpoint.outcomes) == (UpdateState.UPDATE_FAILED, (outcome,))


def test_versions_are_never_used_twice() -> None:
    """The update after a failed one has the next version, and its entities a generation of their own."""
    failed = lifecycle.fail(begin(active(m="1"), specs(m="2")), [], NOW_MS)
    endpoint = begin(failed, specs(m="2"))
    assert endpoint.pending is not None
    assert (endpoint.pending.version, endpoint.pending.entities[0].generation) == (3, 3)
    assert endpoint.outcomes == ()


def test_a_stopped_endpoint_wants_nothing_and_routes_nowhere_until_its_start_is_ready() -> None:
    """Stopping takes replicas and routes; starting wants all replicas anew, and the old ones are not started again."""
    stopped = lifecycle.stop(active(a="1"), NOW_MS)
    assert list(wanted_entities(stopped)) == []
    assert route(stopped.name, stopped, observed(), None, now=NOW, options=OPTIONS).view.split == ()
    started = lifecycle.start(stopped, creator="me", now_ms=NOW_MS)
    assert [entity.generation for entity in wanted_entities(started)] == [2]
    assert route(started.name, started, observed(), None, now=NOW, options=OPTIONS).view.split == ()
    seen = observed(replicas(started, pending=True))
    routing = route(started.name, started, seen, None, now=NOW, options=OPTIONS)
    assert [(where.generation, percent) for where, percent in routing.view.split] == [(2, 100)]
    failed = lifecycle.fail(started, [], NOW_MS)
    assert failed.suspended, "a start that failed leaves it stopped"
    assert not lifecycle.succeed(started, NOW_MS).suspended


def test_a_canceled_update_goes_back_to_what_served() -> None:
    """Its routes are those of the active config again, and what it alone brought is wanted no more."""
    updating = begin(active(a="1"), specs(b="2"))
    canceled = lifecycle.cancel(updating, NOW_MS)
    assert [entity.name for entity in wanted_entities(canceled)] == ["a"]
    seen = observed(replicas(canceled), replicas(canceled, pending=True))
    routing = route(canceled.name, canceled, seen, None, now=NOW, options=OPTIONS)
    assert (routing.version, [where.entity for where, _ in routing.view.split]) == (1, ["a"])
