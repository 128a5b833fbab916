"""The histogram, against sorted lists of the same values."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.loadtest.histogram import Histogram

values = st.lists(st.integers(0, 10**13), min_size=1, max_size=200)


def filled(numbers):
    """A histogram of these."""
    made = Histogram()
    for number in numbers:
        made.record(number)
    return made


@settings(deadline=None)  # the machine may be busy
@given(values, st.floats(0.001, 1))
def test_a_quantile_is_within_a_thousandth_of_the_exact_one(numbers, share):
    """Three significant digits, over thirteen powers of ten."""
    exact = sorted(numbers)[math.ceil(share * len(numbers)) - 1]
    assert filled(numbers).quantile(share) == pytest.approx(exact, rel=1e-3, abs=0)


@settings(deadline=None)  # the machine may be busy
@given(values)
def test_count_mean_and_extremes_are_exact(numbers):
    """What needs no steps is kept without them."""
    made = filled(numbers)
    assert (made.count, made.lowest, made.highest) == (len(numbers), min(numbers), max(numbers))
    assert made.mean == pytest.approx(sum(numbers) / len(numbers))


@settings(deadline=None)  # the machine may be busy
@given(values, values)
def test_a_sum_is_the_histogram_of_all(first, second):
    """Adding up loses nothing, and changes no part."""
    a, b = filled(first), filled(second)
    both, whole = Histogram.sum((a, Histogram(), b)), filled(first + second)
    assert list(both.steps()) == list(whole.steps())
    assert (both.count, both.lowest, both.highest, both.mean) == (whole.count, whole.lowest, whole.highest, whole.mean)
    assert a.count == len(first)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_the_chance_of_being_faster_counts_pairs(first, second):
    """Mann–Whitney's U, ties counted half."""
    wins = sum((a < b) + (a == b) / 2 for a in first for b in second)
    assert filled(first).faster_than(filled(second)) == pytest.approx(wins / (len(first) * len(second)))


def test_nothing_recorded_is_no_error():
    """An empty histogram answers with zeros, and is neither faster nor slower than another."""
    empty = Histogram()
    assert empty.quantiles((0.5, 0.99)) == [0, 0]
    assert (empty.mean, empty.faster_than(filled([1]))) == (0, 0.5)


def test_memory_does_not_grow_with_the_number_of_values():
    """A million answers of one model need no more than some thousands of counters."""
    rng = random.Random(1)
    made = filled(int(rng.lognormvariate(13, 1)) for _ in range(50_000))
    assert len(list(made.steps())) < 15_000
