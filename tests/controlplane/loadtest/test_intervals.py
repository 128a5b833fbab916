"""Confidence intervals: that they hold the truth as often as they say."""

import random
from collections import Counter

import pytest

from controlplane.loadtest import intervals


@pytest.mark.parametrize("weights", [{"a": 90, "b": 10}, {"a": 99, "b": 1}, {"a": 50, "b": 30, "c": 20}], ids=str)
def test_the_interval_covers_the_true_weight_in_95_of_100_runs(weights):
    """Each of 100 seeded runs draws by the weights; the intervals of all models together hold them in 95 at least."""
    covered = 0
    for seed in range(100):
        drawn = Counter(random.Random(seed).choices(list(weights), list(weights.values()), k=1000))
        found = intervals.shares({name: drawn[name] for name in weights})
        covered += all(low <= weights[name] / 100 <= high for name, (low, high) in found.items())
    assert covered >= 95


def test_a_wrong_weight_is_found_out():
    """The intervals are not so wide that they hold everything: 88 for 90 is seen with ten thousand requests."""
    low, high = intervals.shares({"a": 8800, "b": 1200})["a"]
    assert high < 0.90
    assert low > 0.865


def test_none_and_all_are_shares_too():
    """At 0 and 1, where the usual approximations have no width, the bounds are those of the rule of three."""
    found = intervals.shares({"all": 1000, "none": 0})
    assert found["all"][1] == 1
    assert found["none"][0] == 0
    assert found["none"][1] == pytest.approx(1 - found["all"][0])
    assert 0.003 < found["none"][1] < 0.005


def test_the_median_has_an_interval_from_six_values_on():
    """Five tosses that all show heads are not rare enough; six are."""
    assert intervals.median([1.0] * 5) is None
    assert intervals.median([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]) == (3.5, 1.0, 6.0)


def test_the_medians_interval_holds_the_median_in_95_of_100_runs():
    """Whatever the distribution; here one with a long tail, whose median is 0."""
    covered = 0
    for seed in range(100):
        rng = random.Random(seed)
        _, low, high = intervals.median([rng.paretovariate(1) - 2 for _ in range(60)])
        covered += low <= 0 <= high
    assert covered >= 95
