"""Replicas to start and stop, and the end of an update, as a function of values."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain import Address, Endpoint, Outcome, Phase, Replica, UpdateState
from controlplane.rollout import lifecycle
from controlplane.rollout.plan import Plan, plan
from controlplane.rollout.state import Observed, Published
from tests.controlplane.rollout.builders import (
    NOW,
    NOW_MS,
    OPTIONS,
    active,
    begin,
    empty,
    observed,
    published,
    replicas,
    specs,
    split,
    with_phase,
)


def planned(
    endpoint: Endpoint | None, seen: Observed, told: Published | None = None, *, now: float = NOW, now_ms: int = NOW_MS
) -> Plan:
    """The plan with the usual options."""
    return plan(endpoint, seen, told, now=now, now_ms=now_ms, options=OPTIONS)


def ids(todo: Plan) -> set[str]:
    """What is to be started."""
    return {spec.id for spec in todo.start}


def test_missing_replicas_of_active_and_pending_configs_are_started() -> None:
    """Every replica that either config wants and that does not exist is started."""
    endpoint = begin(active(m="1"), specs(m="2"))
    both = {replica.id for replica in (*replicas(endpoint), *replicas(endpoint, pending=True))}
    assert ids(planned(endpoint, observed())) == both


def test_nothing_is_done_when_all_is_as_wanted() -> None:
    """A deployed endpoint with its replicas ready needs nothing."""
    endpoint = active(m="1")
    seen = observed(replicas(endpoint))
    assert planned(endpoint, seen, published(endpoint, seen)) == Plan()


def test_a_weight_change_starts_and_stops_nothing() -> None:
    """New percentages alone touch no replica."""
    endpoint = active(a="1", b="1")
    seen = observed(replicas(endpoint))
    update = begin(endpoint, specs(a="1", b="1"), split(a=1, b=99))
    todo = planned(update, seen, replace(published(update, seen), applied_at=None))
    assert (todo.start, todo.stop) == ((), ())


def test_an_update_succeeds_only_when_every_envoy_has_acknowledged_it() -> None:
    """Ready replicas are not enough: the routes must have been published and acknowledged."""
    endpoint = begin(active(m="1"), specs(m="2"))
    seen = observed(replicas(endpoint), replicas(endpoint, pending=True))
    told = published(endpoint, seen)
    assert planned(endpoint, seen, replace(told, applied_at=None)).finished is None
    finished = planned(endpoint, seen, told).finished
    assert finished is not None
    assert (finished.update, finished.active) == (UpdateState.NOT_UPDATING, endpoint.pending)


def test_a_model_that_does_not_load_fails_the_update_with_its_own_words() -> None:
    """The entity at fault is FAILED with the exception's words, the others are given up, the active config stays."""
    endpoint = begin(active(m="1"), specs(good="2", bad="3"))
    good, bad = replicas(endpoint, pending=True)
    words = "ModuleNotFoundError: No module named 'foo'"
    finished = planned(
        endpoint, observed(replicas(endpoint), [good, with_phase(bad, Phase.FAILED, words, permanent=True)])
    ).finished
    assert finished is not None
    assert finished.update is UpdateState.UPDATE_FAILED
    assert finished.active == endpoint.active
    assert finished.outcomes == (
        Outcome("good", failed=False, message="Served model creation aborted because of bad."),
        Outcome("bad", failed=True, message=words),
    )


def test_what_a_failed_update_started_is_stopped() -> None:
    """Replicas of a config that failed are not wanted; those of the active one are."""
    endpoint = begin(active(m="1"), specs(m="2", n="2"))
    seen = observed(replicas(endpoint), replicas(endpoint, pending=True))
    old = published(active(m="1"), observed(replicas(endpoint)))
    failed = lifecycle.fail(endpoint, [], NOW_MS)
    todo = planned(failed, seen, old, now=NOW + OPTIONS.drain)
    assert {replica_id for replica_id, _ in todo.stop} == {r.id for r in replicas(endpoint, pending=True)}
    assert todo.start == ()


def test_a_replica_is_stopped_only_when_no_envoy_can_send_it_a_request() -> None:
    """Listed: no. Unlisted but not settled: no. Settled less than the drain ago: later. Then: yes, with grace."""
    before = active(m="1")
    old = replicas(before)
    update = begin(before, specs(m="2"))
    new = replicas(update, pending=True)
    endpoint = lifecycle.succeed(update, NOW_MS)
    seen = observed(old, new)
    listed = published(update, seen, before=published(before, observed(old)))
    assert planned(endpoint, seen, listed, now=NOW + 99).stop == ()
    unlisted = published(endpoint, seen)
    assert planned(endpoint, seen, replace(unlisted, settled_at=None), now=NOW + 99).stop == ()
    early = planned(endpoint, seen, unlisted, now=NOW)
    assert (early.stop, early.wake_at) == ((), NOW + OPTIONS.drain)
    assert planned(endpoint, seen, unlisted, now=NOW + OPTIONS.drain).stop == ((old[0].id, OPTIONS.grace),)


def test_replicas_of_a_deleted_endpoint_are_stopped() -> None:
    """Nothing of an endpoint that is gone is kept."""
    before = active(m="1")
    seen = observed(replicas(before))
    gone = Published(replace(published(before, seen).view, exists=False, split=(), clusters=()), None, NOW, NOW)
    assert {i for i, _ in planned(None, seen, gone, now=NOW + 1).stop} == {r.id for r in replicas(before)}


def test_a_crashed_replica_is_started_again() -> None:
    """The same replica, not a new one, so that its socket and its place in the cluster stay."""
    endpoint = active(m="1")
    (replica,) = replicas(endpoint)
    crashed = with_phase(replica, Phase.FAILED, "killed by SIGKILL")
    assert ids(planned(endpoint, Observed((crashed,), {replica.id: (NOW,)}))) == {replica.id}
    later = planned(endpoint, Observed((crashed,), {replica.id: (NOW - 1, NOW)}))
    assert (later.start, later.wake_at) == ((), NOW + 0.5)


def test_an_update_that_takes_too_long_is_given_up() -> None:
    """After the deploy timeout every entity says so, with the last thing that was heard of it."""
    endpoint = begin(empty(), specs(m="1"))
    starting = [with_phase(r, Phase.STARTING, "loading model") for r in replicas(endpoint, pending=True)]
    waiting = planned(endpoint, observed(starting))
    assert waiting.wake_at == NOW + OPTIONS.deploy_timeout
    finished = planned(endpoint, observed(starting), now_ms=NOW_MS + int(OPTIONS.deploy_timeout * 1000)).finished
    assert finished is not None
    assert finished.update is UpdateState.UPDATE_FAILED
    assert "timed out" in finished.outcomes[0].message
    assert finished.outcomes[0].message.endswith("loading model")


def test_a_configuration_that_envoy_refuses_fails_the_update_in_envoys_words() -> None:
    """A NACK is the reason of the failure, and nothing that serves changes."""
    endpoint = begin(active(m="1"), specs(m="2"))
    seen = observed(replicas(endpoint), replicas(endpoint, pending=True))
    told = replace(published(endpoint, seen), applied_at=None, rejected="route: unknown cluster")
    finished = planned(endpoint, seen, told).finished
    assert finished is not None
    assert "route: unknown cluster" in finished.outcomes[0].message
    assert finished.active == endpoint.active


def test_an_entity_that_nobody_asks_for_is_sent_to_sleep_and_the_rest_of_it_stopped() -> None:
    """The first replica sleeps, with its address still listed; the others are stopped once they are not."""
    endpoint = active(m="1")
    (first,) = replicas(endpoint)
    second = replace(first, id=first.id[:-1] + "1", address=Address(path="/run/second.sock"))
    seen = replace(observed([first, second]), wanted={first.deployment: 0})
    told = published(endpoint, seen)
    assert [address for _, found in told.view.clusters for address in found] == [first.address]
    todo = planned(endpoint, seen, told, now=NOW + OPTIONS.drain)
    assert (todo.start, todo.stop) == ((), ((second.id, OPTIONS.grace),))
    ((spec, grace),) = todo.sleep
    assert (spec.id, spec.asleep, grace) == (first.id, True, OPTIONS.grace)


def test_a_sleeping_replica_is_left_alone_and_stays_listed() -> None:
    """It is neither started nor stopped, and requests find it."""
    endpoint = active(m="1")
    (replica,) = replicas(endpoint, phase=Phase.ASLEEP)
    replica = replace(replica, holds_connections=True)
    seen = replace(observed([replica]), wanted={replica.deployment: 0})
    told = published(endpoint, seen)
    assert [address for _, found in told.view.clusters for address in found] == [replica.address]
    assert planned(endpoint, seen, told) == Plan()


def test_what_nobody_asked_for_is_started_asleep() -> None:
    """After a restart a sleeping entity gets its socket and no process."""
    endpoint = active(m="1")
    (replica,) = replicas(endpoint)
    (spec,) = planned(endpoint, replace(observed(), wanted={replica.deployment: 0})).start
    assert (spec.id, spec.asleep) == (replica.id, True)


def test_more_replicas_are_started_when_more_are_wanted_and_given_up_when_fewer_are() -> None:
    """What the autoscaler says is what there is to be, in slots from the first."""
    endpoint = active(m="1")
    (first,) = replicas(endpoint)
    up = planned(endpoint, replace(observed([first]), wanted={first.deployment: 3}))
    assert ids(up) == {first.id[:-1] + "1", first.id[:-1] + "2"}
    grown = [first, *(replace(first, id=spec.id, address=Address(path=f"/{spec.id}")) for spec in up.start)]
    seen = replace(observed(grown), wanted={first.deployment: 1})
    down = planned(endpoint, seen, published(endpoint, seen), now=NOW + OPTIONS.drain)
    assert {id_ for id_, _ in down.stop} == ids(up)


phases = st.sampled_from(list(Phase))


@given(st.lists(phases, min_size=2, max_size=2), st.booleans(), st.sampled_from([0.0, 0.5, 1.0, 100.0]))
def test_carrying_a_plan_out_twice_does_no_more_than_once(found: list[Phase], applied: bool, after: float) -> None:
    """After starts and stops have taken effect, the next plan starts and stops none of them again."""
    endpoint = begin(active(m="1"), specs(m="2"))
    (old,), (new,) = replicas(endpoint), replicas(endpoint, pending=True)
    seen = observed([with_phase(old, found[0]), with_phase(new, found[1])])
    told = published(endpoint, seen, at=NOW if applied else None)
    first = planned(endpoint, seen, told, now=NOW + after)

    def effect(replica: Replica) -> Replica:
        if replica.id in {spec.id for spec in first.start}:
            return with_phase(replica, Phase.STARTING)
        return with_phase(replica, Phase.STOPPING) if replica.id in dict(first.stop) else replica

    present = {replica.id for replica in seen.replicas}
    more = [Replica(spec.id, spec.deployment, Phase.STARTING) for spec in first.start if spec.id not in present]
    then = observed([*(effect(replica) for replica in seen.replicas), *more])
    second = planned(endpoint, then, told, now=NOW + after)
    assert ids(second) & ids(first) == set()
    assert set(second.stop) & set(first.stop) == set()


@given(st.lists(phases, max_size=6))
def test_no_plan_wants_more_replicas_than_the_configs_do(found: list[Phase]) -> None:
    """Whatever exists, each entity has the one that it wants then, besides what is ending."""
    endpoint = begin(active(a="1", b="1"), specs(a="1", b="2"))
    wanted = [*replicas(endpoint), *replicas(endpoint, pending=True)]
    seen = observed([with_phase(replica, phase) for replica, phase in zip(wanted, found, strict=False)])
    starts = planned(endpoint, seen).start
    assert len({spec.id for spec in starts}) == len(starts)
    staying = {replica.id: replica.deployment for replica in seen.replicas if replica.phase is not Phase.STOPPING}
    there = Counter({**staying, **{spec.id: spec.deployment for spec in starts}}.values())
    assert all(there[replica.deployment] <= 1 for replica in wanted)


def test_a_new_entity_is_never_started_asleep() -> None:
    """However long its start takes, and whatever was in its way: it has to show that it loads before it may sleep."""
    endpoint = begin(active(m="1"), specs(m="2"))
    (old,), (new,) = replicas(endpoint), replicas(endpoint, pending=True)
    failed = with_phase(new, Phase.FAILED)
    for found in ([old], [old, failed]):
        seen = replace(observed(found), wanted={new.deployment: 0})
        (spec,) = planned(endpoint, seen).start
        assert (spec.id, spec.asleep) == (new.id, False)


@pytest.mark.parametrize(
    ("phases", "count", "kept"),
    [
        ("FAILED READY", 1, "1"),
        ("STARTING READY READY", 2, "1 2"),
        ("FAILED STARTING", 1, "1"),
        ("READY READY", 0, "0"),
        ("READY ASLEEP", 0, "1"),
        ("READY ASLEEP", 1, "0"),
        ("READY STOPPING", 2, "0 2"),
        ("FAILED READY", 3, "1 0 2"),
        ("", 2, "0 1"),
    ],
)
def test_who_serves_stays(phases: str, count: int, kept: str) -> None:
    """Nobody who serves is given up for one who does not, and the slot of one who is ending is not taken."""
    endpoint = active(m="1")
    (first,) = replicas(endpoint)
    found = [
        replace(first, id=f"{first.id[:-1]}{slot}", phase=Phase[phase]) for slot, phase in enumerate(phases.split())
    ]
    seen = replace(observed(found), wanted={first.deployment: count})
    assert endpoint.active
    assert seen.kept(endpoint.id, endpoint.active.entities[0]) == tuple(first.id[:-1] + slot for slot in kept.split())
