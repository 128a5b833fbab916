"""What Envoy is told, as a function of endpoint, fleet and what it was told before."""

from __future__ import annotations

from dataclasses import replace

from controlplane.domain import Phase, Replica
from controlplane.rollout import lifecycle
from controlplane.rollout.routing import Routing, route
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


def paths(routing: Routing) -> dict[str, tuple[str, ...]]:
    """Entity@generation → sockets of its cluster."""
    return {
        f"{where.entity}@{where.generation}": tuple(a.path for a in found) for where, found in routing.view.clusters
    }


def socket(replica: Replica) -> str:
    """Where a replica listens."""
    assert replica.address
    return replica.address.path


def test_an_endpoint_without_a_ready_config_exists_and_routes_nowhere() -> None:
    """A new endpoint is found, but has no split and no clusters."""
    routing = route("ep", begin(empty(), specs(m="1")), observed(), None, now=NOW, options=OPTIONS)
    assert (routing.view.exists, routing.view.split, routing.view.clusters, routing.version) == (True, (), (), None)


def test_the_old_config_serves_until_every_new_entity_is_ready() -> None:
    """While one entity of the update still starts, the active config takes the traffic."""
    endpoint = begin(active(a="1", b="1"), specs(a="2", b="2"))
    old, new = replicas(endpoint), replicas(endpoint, pending=True)
    seen = observed(old, [new[0], with_phase(new[1], Phase.STARTING)])
    assert route("ep", endpoint, seen, None, now=NOW, options=OPTIONS).version == 1


def test_the_new_config_takes_over_when_ready_and_the_old_replicas_keep_their_clusters() -> None:
    """At the switch the split names the new generation; the old cluster stays, hosts and all, until Envoys agree."""
    endpoint = begin(active(m="1"), specs(m="2"))
    old, new = replicas(endpoint), replicas(endpoint, pending=True)
    before = published(endpoint, observed(old))
    routing = route("ep", endpoint, observed(old, new), before, now=NOW, options=OPTIONS)
    assert routing.version == 2
    assert [(where.generation, percent) for where, percent in routing.view.split] == [(2, 100)]
    assert paths(routing) == {"m@2": (socket(new[0]),), "m@1": (socket(old[0]),)}


def test_what_was_replaced_goes_after_the_drain() -> None:
    """The old cluster is dropped once the switch was acknowledged and the drain time has passed, not before."""
    endpoint = begin(active(m="1"), specs(m="2"))
    old, new = replicas(endpoint), replicas(endpoint, pending=True)
    seen = observed(old, new)
    switched = published(endpoint, seen, before=published(endpoint, observed(old)), at=NOW)
    endpoint = lifecycle.succeed(endpoint, NOW_MS)

    draining = route("ep", endpoint, seen, switched, now=NOW + 0.9, options=OPTIONS)
    assert "m@1" in paths(draining)
    assert draining.wake_at == NOW + OPTIONS.drain
    assert "m@1" not in paths(route("ep", endpoint, seen, switched, now=NOW + 1.0, options=OPTIONS))
    unacknowledged = replace(switched, applied_at=None)
    assert "m@1" in paths(route("ep", endpoint, seen, unacknowledged, now=NOW + 9, options=OPTIONS))


def test_a_change_of_weights_changes_only_the_split() -> None:
    """New percentages for the same entities keep every cluster as it is, and need no replica to be started."""
    endpoint = active(a="1", b="1", traffic=split(a=90, b=10))
    seen = observed(replicas(endpoint))
    before = published(endpoint, seen)
    routing = route(
        "ep", begin(endpoint, specs(a="1", b="1"), split(a=50, b=50)), seen, before, now=NOW, options=OPTIONS
    )
    assert [percent for _, percent in routing.view.split] == [50, 50]
    assert routing.view.clusters == before.view.clusters


def test_weights_can_be_moved_off_an_entity_that_is_down() -> None:
    """An entity that an update takes over unchanged does not hold the update up, however it is."""
    endpoint = active(good="1", bad="1", traffic=split(good=50, bad=50))
    good, bad = replicas(endpoint)
    update = begin(endpoint, specs(good="1", bad="1"), split(good=100, bad=0))
    seen = observed([good, with_phase(bad, Phase.FAILED)])
    assert route("ep", update, seen, None, now=NOW, options=OPTIONS).version == 2


def test_a_failed_update_leaves_the_active_config_routed() -> None:
    """After UPDATE_FAILED the view is that of the active config."""
    endpoint = active(m="1")
    failed = lifecycle.fail(begin(endpoint, specs(m="2")), [], NOW_MS)
    seen = observed(replicas(endpoint))
    assert route("ep", failed, seen, None, now=NOW, options=OPTIONS) == route(
        "ep", endpoint, seen, None, now=NOW, options=OPTIONS
    )


def test_requests_wait_at_the_socket_of_a_replica_that_is_being_replaced() -> None:
    """When nobody is ready, sockets that hold connections are listed, unless the process keeps failing."""
    endpoint = active(m="1")
    (replica,) = replicas(endpoint)
    crashed = replace(with_phase(replica, Phase.FAILED), holds_connections=True)

    def listed(seen: Observed) -> tuple[str, ...]:
        return paths(route("ep", endpoint, seen, None, now=NOW, options=OPTIONS))["m@1"]

    assert listed(Observed((crashed,), {crashed.id: (NOW,)})) == (socket(replica),)
    assert listed(Observed((crashed,), {crashed.id: (NOW - 2, NOW - 1, NOW)})) == ()
    assert listed(Observed((replace(crashed, permanent=True),), {})) == ()
    assert listed(Observed((replace(crashed, holds_connections=False),), {})) == ()


def test_a_crashed_replica_is_left_out_while_another_answers() -> None:
    """Requests wait for nobody as long as one replica of the entity is ready."""
    endpoint = active(m="1")
    (replica,) = replicas(endpoint)
    other = replace(replica, id="other", phase=Phase.FAILED, holds_connections=True)
    assert paths(route("ep", endpoint, observed([replica, other]), None, now=NOW, options=OPTIONS))["m@1"] == (
        socket(replica),
    )


def test_a_deleted_endpoint_is_not_found_and_drains() -> None:
    """Deletion takes the routes at once; clusters follow after the drain."""
    endpoint = active(m="1")
    seen = observed(replicas(endpoint))
    before = published(endpoint, seen)
    routing = route("ep", None, seen, before, now=NOW, options=OPTIONS)
    assert (routing.view.exists, routing.view.split) == (False, ())
    assert paths(routing) == paths(route("ep", endpoint, seen, None, now=NOW, options=OPTIONS))
    gone = Published(routing.view, routing.version, applied_at=NOW, settled_at=NOW)
    assert route("ep", None, seen, gone, now=NOW + 1, options=OPTIONS).view.clusters == ()


def test_a_sleeper_is_listed_however_often_it_has_failed() -> None:
    """Nobody but the next request tries it again."""
    endpoint = active(m="1")
    (replica,) = replicas(endpoint, phase=Phase.ASLEEP)
    replica = replace(replica, holds_connections=True)
    seen = replace(observed([replica]), failures={replica.id: (1.0, 2.0, 3.0)}, wanted={replica.deployment: 0})
    assert paths(route("ep", endpoint, seen, None, now=NOW, options=OPTIONS))["m@1"] == (socket(replica),)
