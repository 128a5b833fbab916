"""Reports of several Envoys, put together."""

from __future__ import annotations

from controlplane.domain.load import LoadReport
from controlplane.rollout.loads import ClusterLoad, Loads


def report(node: str, cluster: str, issued: int = 1, in_progress: int = 0) -> LoadReport:
    """One line of one Envoy's report."""
    return LoadReport(node, cluster, 1.0, issued, issued, 0, in_progress)


def test_what_several_envoys_have_under_way_adds_up() -> None:
    """A cluster's load is the sum over the Envoys that send it requests."""
    loads = Loads()
    loads.heard("a", [report("a", "x", in_progress=2)])
    assert loads.heard("b", [report("b", "x", in_progress=3)]) == {"x": ClusterLoad(5, active=True)}


def test_a_cluster_that_is_no_longer_named_has_no_requests_there() -> None:
    """Silence about a cluster is told once, as no load from that Envoy."""
    loads = Loads()
    loads.heard("a", [report("a", "x", in_progress=2)])
    loads.heard("b", [report("b", "x", in_progress=3)])
    assert loads.heard("a", []) == {"x": ClusterLoad(3, active=True)}
    assert loads.heard("b", []) == {"x": ClusterLoad(0, active=False)}
    assert loads.heard("b", []) == {}
