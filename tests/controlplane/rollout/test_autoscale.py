"""The autoscaler as a function of a history."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain import EntitySpec, ServedEntity, WorkloadSize
from controlplane.rollout.autoscale import Bounds, History, Sample, Scale, ScaleOptions, bounds, scale

OPTIONS = ScaleOptions(down_after=10.0, to_zero_after=30.0)
MEDIUM = Bounds(2, 4)


def heard(*concurrencies: float, start: float = 0.0, history: History | None = None) -> History:
    """A history with one sample a second."""
    history = history or History(active_at=start)
    for number, concurrency in enumerate(concurrencies):
        history = history.then(Sample(start + number, concurrency), active=concurrency > 0, options=OPTIONS)
    return history


def entity(size: WorkloadSize | None, **spec: object) -> ServedEntity:
    """A served entity of a size."""
    return ServedEntity(EntitySpec("m", "churn", "1", workload_size=size, **spec), 1, "/m", "me", 0)  # type: ignore[arg-type]


def test_sizes_mean_what_the_api_says() -> None:
    """Four units a replica: Small is one, Medium two to four, Large four to sixteen, or what is given directly."""
    assert bounds(entity(WorkloadSize.SMALL)) == Bounds(1, 1)
    assert bounds(entity(WorkloadSize.MEDIUM, scale_to_zero_enabled=True)) == Bounds(2, 4, to_zero=True)
    assert bounds(entity(WorkloadSize.LARGE)) == Bounds(4, 16)
    given_directly = entity(None, min_provisioned_concurrency=4, max_provisioned_concurrency=12)
    assert bounds(given_directly) == Bounds(1, 3)


def test_it_grows_at_once_and_shrinks_when_the_load_has_been_gone_for_long() -> None:
    """The sample that shows the load already gives the replicas; they stay for the window after its last sight."""
    history = heard(0, 0, 16)
    assert scale(history, MEDIUM, 2.0, OPTIONS) == Scale(4, ask_again_at=12.0)
    history = heard(*[1] * 9, start=3.0, history=history)
    assert scale(history, MEDIUM, 11.0, OPTIONS).replicas == 4
    assert scale(history, MEDIUM, 12.0, OPTIONS).replicas == 2


def test_it_never_grows_beyond_the_bounds() -> None:
    """However many requests are under way, the most is the most."""
    assert scale(heard(1000), MEDIUM, 0.0, OPTIONS).replicas == 4


def test_idle_for_long_enough_is_asleep_and_a_request_under_way_is_not_idle() -> None:
    """Only an entity that may scale to zero sleeps, only after the idle time, and never with a request in hand."""
    within = Bounds(1, 4, to_zero=True)
    history = heard(1, 0)
    assert scale(history, within, 29.9, OPTIONS) == Scale(1, ask_again_at=30.0)
    assert scale(history, within, 30.0, OPTIONS) == Scale(0)
    assert scale(history, Bounds(1, 4), 1e9, OPTIONS).replicas == 1
    long_request = History(active_at=0.0, samples=(Sample(100.0, 1),))
    assert scale(long_request, within, 101.0, OPTIONS).replicas == 1


@given(st.lists(st.floats(0, 200), min_size=1, max_size=60), st.integers(1, 4), st.integers(0, 8), st.booleans())
def test_it_stays_within_its_bounds(load: list[float], least: int, more: int, to_zero: bool) -> None:
    """Whatever the load, the answer is between least and most, or zero where that is allowed."""
    within = Bounds(least, least + more, to_zero)
    for now in (len(load) - 1.0, len(load) + 5.0, len(load) + 1000.0):
        replicas = scale(heard(*load), within, now, OPTIONS).replicas
        assert least <= replicas <= least + more or (to_zero and replicas == 0)


@given(st.lists(st.integers(5, 8), min_size=25, max_size=60))
def test_a_steady_load_does_not_make_it_flap(load: list[int]) -> None:
    """Once the greatest load of a noisy but steady kind has been seen, the answer never changes."""
    load = [8, *load]
    history, answers = History(0.0), []
    for second, concurrency in enumerate(load):
        again = 8 if second % 9 == 0 else concurrency
        history = history.then(Sample(float(second), again), active=True, options=OPTIONS)
        answers.append(scale(history, Bounds(1, 16), float(second), OPTIONS).replicas)
    assert set(answers) == {2}


@given(st.floats(0, 200))
def test_a_constant_load_is_answered_in_one_step(concurrency: float) -> None:
    """From any past, the bounded time of the window is enough to arrive at what the load needs."""
    history = heard(500, 3, 90)
    for second in range(3, 20):
        history = history.then(Sample(float(second), concurrency), active=concurrency > 0, options=OPTIONS)
    expected = min(16, max(1, -(-concurrency // 4)))
    assert scale(history, Bounds(1, 16), 19.0, OPTIONS).replicas == expected


@given(st.lists(st.floats(0, 100), max_size=500))
def test_a_history_stays_small(load: list[float]) -> None:
    """Samples that can no longer be the greatest are forgotten: at most one a second of the window is kept, in falling order."""
    samples = heard(*load).samples
    assert len(samples) <= OPTIONS.down_after + 1
    assert all(first.concurrency > second.concurrency for first, second in itertools.pairwise(samples))
