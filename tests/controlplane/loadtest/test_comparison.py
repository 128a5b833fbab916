"""Whether two served models differ: found where they do, not where they do not, and told in words."""

import random

import pytest

from controlplane.loadtest.comparison import compare
from controlplane.loadtest.schedule import target
from controlplane.loadtest.tally import SLICES, Tally

MS = 1_000_000


def measured(seed, slower, *, tail=1.0, requests=6000):
    """The slices of a test whose second target takes `slower` times as long, on a machine that is slow now and then."""
    rng = random.Random(seed)
    tally = Tally(2, 60)
    burden = 1.0
    for number in range(requests):
        if number % 100 == 0:
            burden = rng.choice((1, 1, 1, 1.5, 4))  # a neighbour that comes and goes
        which = target(number, 2)
        took = MS * burden * rng.lognormvariate(0, 0.3) * (slower if which else 1)
        if which and rng.random() < 0.03:
            took *= tail
        due = int(number * 60e9 / requests)
        tally.answered(which, due, due + int(took), "ab"[which], b"")
    return tally.slices


def test_a_difference_of_five_per_cent_is_found_in_noise_that_is_much_larger():
    """The two take turns, so the noise meets both."""
    found = compare("a", "b", measured(1, 1.05))
    middle = found.differences[0]
    assert middle.real
    assert middle.low < middle.difference < middle.high
    assert 0.03 < middle.difference / middle.first < 0.08
    assert found.first_quicker > 0.5
    assert found.words.startswith("b is slower than a by 0.0")


def test_the_faster_one_is_said_to_be_faster():
    """The sign is that of the second."""
    found = compare("a", "b", measured(2, 0.9))
    assert found.differences[0].high < 0
    assert found.words.startswith("b is faster than a by ")


def test_the_same_model_twice_is_seldom_said_to_differ():
    """One in twenty would be allowed; all requests thrown together would have said so far more often."""
    said = sum(compare("a", "b", measured(seed, 1.0, requests=3000)).differences[0].real for seed in range(12))
    assert said <= 1


def test_a_tail_alone_is_told_of():
    """The median may be the same and the 99th percentile not."""
    found = compare("a", "b", measured(3, 1.0, tail=20, requests=30_000))
    assert found.differences[1].real
    assert "At p99 b is slower by" in found.words


@pytest.mark.parametrize("requests", [0, 20, 100], ids=str)
def test_too_few_answers_are_said_to_be_too_few(requests):
    """No verdict is made up."""
    found = compare("a", "b", measured(4, 2.0, requests=requests))
    assert not found.differences[0].real or requests == 100
    if requests < 100:
        assert found.words.startswith("Too few answers")


def test_two_targets_come_equally_often_and_in_no_rhythm():
    """In each run of four both come twice, and each comes first as often as the other."""
    order = [target(number, 2) for number in range(4096)]
    assert all(sum(order[at : at + 4]) == 2 for at in range(0, len(order), 4))
    firsts = order[::2]
    assert sum(firsts) == len(firsts) / 2


def test_slices_never_grow_in_number():
    """What comes after the end is in one more slice, however late."""
    tally = Tally(1, 6)
    tally.answered(0, 0, 10**13, "", b"")
    tally.refused(10**14, "timeout", "")
    assert len(tally.slices) == SLICES + 1
    assert (tally.slices[-1].answered, tally.slices[-1].failed) == (1, 1)
