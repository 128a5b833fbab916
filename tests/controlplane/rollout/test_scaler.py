"""What each deployment is to have, as endpoints, loads and time change."""

from __future__ import annotations

from dataclasses import replace

from controlplane.domain import Endpoint, EntitySpec, WorkloadSize
from controlplane.rollout import lifecycle
from controlplane.rollout.autoscale import ScaleOptions
from controlplane.rollout.capacity import Room
from controlplane.rollout.loads import ClusterLoad
from controlplane.rollout.scaler import Scaler
from controlplane.rollout.state import deployment
from controlplane.translate import names
from tests.controlplane.rollout.builders import NOW_MS, begin, empty

OPTIONS = ScaleOptions(down_after=10.0, to_zero_after=30.0)


def endpoint(*, pending: bool = False, **spec: object) -> Endpoint:
    """An endpoint with one entity."""
    entity = replace(EntitySpec("m", "churn", "1"), **spec)  # type: ignore[arg-type]
    begun = begin(empty(), [entity])
    return begun if pending else lifecycle.succeed(begun, NOW_MS)


def answer(scaler: Scaler, of: Endpoint) -> int:
    """How many replicas the one entity is to have."""
    (replicas,) = scaler.wanted(of.id).values()
    return replicas


def cluster(of: Endpoint) -> str:
    """The one entity's cluster."""
    config = of.pending or of.active
    assert config
    return names.cluster(of.name, deployment(of.id, config.entities[0]))


def test_a_new_entity_is_started_and_sleeps_when_nobody_has_asked_for_long() -> None:
    """It has to prove that it loads; the idle time begins then."""
    scaler, new = Scaler(OPTIONS), endpoint(pending=True, scale_to_zero_enabled=True)
    scaler.follow(new.id, new, 100.0)
    assert (answer(scaler, new), scaler.ask_again_at(new.id)) == (1, 130.0)
    deployed = lifecycle.succeed(new, NOW_MS)
    scaler.follow(new.id, deployed, 130.0)
    assert answer(scaler, deployed) == 0


def test_after_a_restart_what_may_sleep_sleeps_and_the_rest_is_started() -> None:
    """An active entity that was never heard of is idle; without scale to zero it has its least number."""
    scaler = Scaler(OPTIONS)
    sleeper = endpoint(scale_to_zero_enabled=True)
    scaler.follow(sleeper.id, sleeper, 100.0)
    assert answer(scaler, sleeper) == 0
    scaler, medium = Scaler(OPTIONS), endpoint(workload_size=WorkloadSize.MEDIUM)
    scaler.follow(medium.id, medium, 100.0)
    assert answer(scaler, medium) == 2


def test_a_new_control_plane_does_not_put_to_sleep_what_it_finds_awake() -> None:
    """A replica that is adopted may be busy; its idle time begins with the adoption."""
    scaler, sleeper = Scaler(OPTIONS), endpoint(scale_to_zero_enabled=True)
    assert sleeper.active
    scaler.follow(sleeper.id, sleeper, 100.0, {deployment(sleeper.id, sleeper.active.entities[0]): 1})
    assert answer(scaler, sleeper) == 1
    scaler.follow(sleeper.id, sleeper, 130.0)
    assert answer(scaler, sleeper) == 0


def test_a_new_control_plane_keeps_as_many_replicas_as_it_finds() -> None:
    """A load may be on them, of which it has not heard yet; what is too much goes as after any load."""
    scaler, large = Scaler(OPTIONS), endpoint(workload_size=WorkloadSize.MEDIUM)
    assert large.active
    where = deployment(large.id, large.active.entities[0])
    scaler.follow(large.id, large, 100.0, {where: 4})
    assert answer(scaler, large) == 4
    scaler.follow(large.id, large, 109.0, {where: 4})
    assert (answer(scaler, large), scaler.ask_again_at(large.id)) == (4, 110.0)
    scaler.follow(large.id, large, 110.0, {where: 4})
    assert answer(scaler, large) == 2


def test_loads_change_the_answer_of_the_endpoint_they_concern() -> None:
    """More requests under way than the replicas' units call for more; the report names whose answer changed."""
    scaler, medium = Scaler(OPTIONS), endpoint(workload_size=WorkloadSize.MEDIUM)
    scaler.follow(medium.id, medium, 0.0)
    assert scaler.heard(
        {cluster(medium): ClusterLoad(9, active=True), "stranger": ClusterLoad(9, active=True)}, 1.0
    ) == {medium.id}
    assert answer(scaler, medium) == 3
    assert scaler.heard({cluster(medium): ClusterLoad(9, active=True)}, 2.0) == set()
    assert scaler.heard({cluster(medium): ClusterLoad(0, active=False)}, 3.0) == set()
    scaler.follow(medium.id, medium, 12.0)
    assert answer(scaler, medium) == 2


def test_a_woken_entity_stays_awake_until_it_has_been_idle_again() -> None:
    """A wake counts as a request, though no report has told of one yet."""
    scaler, sleeper = Scaler(OPTIONS), endpoint(scale_to_zero_enabled=True)
    scaler.follow(sleeper.id, sleeper, 100.0)
    (where,) = scaler.wanted(sleeper.id)
    scaler.woke(where, 200.0)
    assert answer(scaler, sleeper) == 1
    scaler.heard({cluster(sleeper): ClusterLoad(0, active=True)}, 201.0)
    scaler.follow(sleeper.id, sleeper, 230.9)
    assert answer(scaler, sleeper) == 1
    scaler.follow(sleeper.id, sleeper, 231.0)
    assert answer(scaler, sleeper) == 0


def test_when_the_last_request_has_ended_somebody_has_to_look_at_the_clock() -> None:
    """The report that an entity has nothing under way any more names its endpoint, for the idle time runs from now.

    It also runs, after as long as loads are remembered, when no report tells of what a wake was for.
    """
    scaler, sleeper = Scaler(replace(OPTIONS, down_after=100.0)), endpoint(scale_to_zero_enabled=True)
    scaler.follow(sleeper.id, sleeper, 100.0)
    (where,) = scaler.wanted(sleeper.id)
    scaler.woke(where, 200.0)
    assert scaler.ask_again_at(sleeper.id) == 300.0
    assert scaler.heard({cluster(sleeper): ClusterLoad(0, active=True)}, 201.0) == {sleeper.id}
    assert scaler.ask_again_at(sleeper.id) == 231.0
    assert scaler.heard({cluster(sleeper): ClusterLoad(0, active=True)}, 202.0) == set()
    scaler.woke(where, 300.0)
    scaler.follow(sleeper.id, sleeper, 400.0)
    assert answer(scaler, sleeper) == 0


def test_a_new_version_begins_with_as_many_as_the_one_it_replaces() -> None:
    """All of its load comes to it at once; an entity of another name has no load to expect."""
    scaler, served = Scaler(OPTIONS), endpoint(workload_size=WorkloadSize.LARGE)
    scaler.follow(served.id, served, 100.0)
    scaler.heard({cluster(served): ClusterLoad(38, active=True)}, 101.0)
    assert answer(scaler, served) == 10
    entities = [EntitySpec(name, "churn", "2", workload_size=WorkloadSize.LARGE) for name in ("m", "other")]
    updated = begin(served, entities)
    scaler.follow(updated.id, updated, 102.0)
    wanted = {where.entity: count for where, count in scaler.wanted(updated.id).items() if where.generation == 2}
    assert wanted == {"m": 10, "other": 4}


def test_an_entity_that_has_just_been_capped_is_looked_at_again() -> None:
    """There may be room by now: what it was capped by was measured when it asked for less."""
    scaler, eager = Scaler(OPTIONS), endpoint(workload_size=WorkloadSize.LARGE, scale_to_zero_enabled=True)
    scaler.follow(eager.id, eager, 100.0, room=lambda _: Room(4, "it is small"))
    scaler.heard({cluster(eager): ClusterLoad(1, active=True)}, 101.0)
    assert scaler.heard({cluster(eager): ClusterLoad(38, active=True)}, 102.0) == {eager.id}
    assert scaler.capped(eager.id)
    assert (answer(scaler, eager), scaler.ask_again_at(eager.id)) == (4, 112.0)


def test_nothing_is_kept_of_a_deleted_endpoint() -> None:
    """Reports about its cluster concern nobody any more."""
    scaler, gone = Scaler(OPTIONS), endpoint()
    scaler.follow(gone.id, gone, 0.0)
    scaler.follow(gone.id, None, 1.0)
    assert scaler.wanted(gone.id) == {}
    assert scaler.heard({cluster(gone): ClusterLoad(99, active=True)}, 2.0) == set()


def test_an_update_of_bounds_alone_is_heeded() -> None:
    """It keeps the replicas that there are: more of them may be wanted now, or none."""
    before = endpoint(workload_size=None, min_provisioned_concurrency=4, max_provisioned_concurrency=4)
    scaler = Scaler(OPTIONS)
    scaler.follow(before.id, before, 100.0)
    scaler.heard({cluster(before): ClusterLoad(40.0, active=True)}, 101.0)
    assert answer(scaler, before) == 1
    entity = EntitySpec("m", "churn", "1", workload_size=None, min_provisioned_concurrency=4)
    larger = lifecycle.succeed(begin(before, [replace(entity, max_provisioned_concurrency=40)]), NOW_MS)
    assert cluster(larger) == cluster(before)
    scaler.follow(larger.id, larger, 102.0)
    assert answer(scaler, larger) == 10
    sleepy = lifecycle.succeed(begin(larger, [replace(entity, scale_to_zero_enabled=True)]), NOW_MS)
    scaler.follow(sleepy.id, sleepy, 200.0)
    assert answer(scaler, sleepy) == 0
