"""What is remembered of load: on values, with the time told."""

from __future__ import annotations

import pytest

from controlplane.domain.load import LoadReport
from controlplane.domain.measurement import Histogram
from controlplane.load_history import KEPT, RECENT, STEP, LoadHistory, times
from controlplane.sampling import parse

NOW = 1_700_000_000_000 - 1_700_000_000_000 % (1000 * STEP)
KEY = ("0123abcd", "m")


def report(issued: int = 0, failed: int = 0, in_progress: int = 0, cluster: str = "ep/m@3.0123abcd") -> LoadReport:
    """One Envoy's report of a second."""
    return LoadReport("envoy", cluster, 1.0, issued, issued - failed, failed, in_progress)


def test_a_minute_of_reports_is_a_rate() -> None:
    """Twenty a second, a tenth of them failed, three under way."""
    history = LoadHistory()
    for second in range(RECENT + 1):
        history.heard("envoy", [report(20, 2, 3)], NOW + 1000 * second)
    recent = history.recent([KEY], NOW + 1000 * RECENT)
    assert recent.rate == pytest.approx(20, rel=0.1)
    assert recent.error_share == pytest.approx(0.1)
    assert recent.in_flight == 3
    assert history.recent([("0123abcd", "other")], NOW).error_share is None


def test_generations_of_an_entity_are_one_and_recreated_endpoints_are_not() -> None:
    """A new version keeps the history; another endpoint of the same name begins without one."""
    history = LoadHistory()
    history.heard("envoy", [report(5), report(7, cluster="ep/m@4.0123abcd")], NOW)
    history.heard("envoy", [report(9, cluster="ep/m@1.ffffffff"), report(1, cluster="wye-api")], NOW)
    assert history.issued(KEY, NOW - 1000 * STEP, NOW) == 12
    assert history.issued(("ffffffff", "m"), NOW - 1000 * STEP, NOW) == 9
    assert len(history) == 2


def test_several_envoys_are_added_up() -> None:
    """What each has under way counts once in a step."""
    history = LoadHistory()
    for node in ("one", "two"):
        for _ in range(3):
            history.heard(node, [report(1, in_progress=2)], NOW)
    assert history.recent([KEY], NOW).in_flight == 4
    assert history.recent([KEY], NOW).requests == 6


def test_it_is_bounded_and_forgets_the_quietest() -> None:
    """Ten thousand entities with requests leave as many series as are allowed, the latest ones."""
    history = LoadHistory(most_series=100)
    history.heard("envoy", [report(1, cluster=f"e{n}/m@1.{n:08}") for n in range(1000)], NOW)
    assert len(history) == 100
    assert history.recent([("00000999", "m")], NOW).requests == 1
    assert history.recent([("00000000", "m")], NOW).requests == 0
    assert all(each[1][0] >= "00000900" for each in history.take_active(NOW))
    assert history.take_active(NOW) == []


def test_points_are_full_steps_and_old_ones_fall_out() -> None:
    """A quarter of an hour, nothing where nothing was measured, and no ghost of a ring's earlier round."""
    history = LoadHistory()
    history.heard("envoy", [report(10)], NOW)
    history.measured(KEY, "ep", NOW, replicas=2, latency=Histogram(((1.0, 5), (float("inf"), 10)), 20.0))
    points = history.points(KEY, NOW + 1000 * STEP)
    assert (points.rate[-1], points.replicas[-1]) == (2.0, 2)
    assert points.p50[-1] == pytest.approx(1.0)
    assert points.rate[-2] == 0.0
    assert points.p50[-2] is None
    assert len(points.rate) == len(times(NOW)) == KEPT - 1
    later = history.points(KEY, NOW + 1000 * STEP * KEPT)
    assert not any(later.rate)
    assert set(later.replicas) == {None}


def test_those_looked_at_are_measured_first() -> None:
    """Then the busiest: the budget may not do for all."""
    history = LoadHistory()
    clusters = {"quiet": 1, "busy": 50, "looked-at": 1}
    history.heard("envoy", [report(n, cluster=f"{name}/m@1.{name[:8]:0<8}") for name, n in clusters.items()], NOW)
    history.watch("looked-at", NOW)
    assert [name for name, _ in history.take_active(NOW)] == ["looked-at", "busy", "quiet"]


def test_quantiles_are_read_off_within_their_bucket() -> None:
    """And differences of histograms are what came between two readings."""
    before = Histogram(((1.0, 10), (10.0, 10), (float("inf"), 10)), 5.0)
    after = Histogram(((1.0, 10), (10.0, 110), (float("inf"), 110)), 500.0)
    since = after - before
    assert since.count == 100
    assert since.quantile(0.5) == pytest.approx(5.5)
    assert Histogram((), 0.0).quantile(0.5) is None
    assert Histogram(((1.0, 0), (float("inf"), 4)), 9.0).quantile(0.99) == 1.0


def test_a_replicas_metrics_are_read() -> None:
    """What the worker writes, as `model_worker/metrics.py` does."""
    from model_worker.metrics import Metrics

    metrics = Metrics()
    for value in (0.3, 0.4, 70.0):
        metrics.latency.observe(value)
    metrics.answered(200)
    metrics.answered(400)
    metrics.answered(415)
    answered = parse(metrics.text())
    assert (answered.latency.count, answered.refused) == (3, 2)
    with pytest.raises(ValueError, match="latencies"):
        parse("nothing")
