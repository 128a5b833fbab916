"""When a failed replica is started again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain import Deployment, Phase, Replica
from controlplane.rollout.restart import ATTEMPTS, LONGEST_DELAY, STEADY, Again, Crashes, GiveUp, verdict

NOW = 1_000.0


@pytest.mark.parametrize(
    ("failures", "permanent", "serving", "expected"),
    [
        pytest.param((NOW,), False, True, Again(NOW), id="a first crash is followed by a start at once"),
        pytest.param((NOW,), False, False, Again(NOW), id="also before it has ever served"),
        pytest.param((NOW - 1, NOW), False, True, Again(NOW + 0.5), id="a second one waits a little"),
        pytest.param((NOW - 2, NOW - 1, NOW), False, True, Again(NOW + 1.0), id="a third one longer"),
        pytest.param((NOW - 900, NOW - 600, NOW), False, False, GiveUp(), id="however long it takes to crash"),
        pytest.param((NOW,) * 20, False, True, Again(NOW + LONGEST_DELAY), id="the wait has an upper bound"),
        pytest.param((NOW,), True, False, GiveUp(), id="a model that does not load is not tried twice"),
        pytest.param((NOW,), True, True, Again(NOW + 0.5), id="unless it once served: its files may come back"),
        pytest.param((NOW,) * ATTEMPTS, False, False, GiveUp(), id="a new model that keeps crashing is given up"),
    ],
)
def test_verdicts(failures: tuple[float, ...], permanent: bool, serving: bool, expected: Again | GiveUp) -> None:
    """Each combination of failures has its verdict."""
    assert verdict(failures, permanent=permanent, serving=serving, now=NOW) == expected


@given(st.lists(st.floats(0, NOW)), st.booleans())
def test_a_serving_replica_is_never_given_up(failures: list[float], permanent: bool) -> None:
    """Whatever happened to a replica of an active config, it is tried again within the longest delay."""
    again = verdict(tuple(sorted(failures)), permanent=permanent, serving=True, now=NOW)
    assert isinstance(again, Again)
    assert again.at <= NOW + LONGEST_DELAY


def lived(*life: tuple[float, Phase, int]) -> Crashes:
    """What is remembered of a replica that was in these phases at these times, in these attempts."""
    crashes, before = Crashes(), None
    for at, phase, attempt in life:
        replica = Replica("r", Deployment("e", "m", 1), phase, message=f"words at {at:g}", attempt=attempt)
        crashes, before = crashes.then(before, replica, at), replica
    return crashes


def test_failures_in_a_row_are_remembered() -> None:
    """Each attempt's once, also when its start went unseen, with the words of the last."""
    failed = lived(
        (1, Phase.STARTING, 1), (2, Phase.FAILED, 1), (3, Phase.FAILED, 1), (4, Phase.FAILED, 2), (9, Phase.STARTING, 3)
    )
    assert (failed.times, failed.last_words) == ((2, 4), "words at 4")


def test_serving_for_a_while_is_what_makes_former_failures_forgotten() -> None:
    """Not a moment of it: a replica that comes up and crashes, again and again, waits longer and longer."""
    ended = [(1.0, Phase.FAILED, 1), (2.0, Phase.READY, 2)]
    assert lived(*ended, (STEADY, Phase.FAILED, 2)).times == (1, STEADY)
    assert lived(*ended, (3, Phase.READY, 2), (2 + STEADY, Phase.FAILED, 2)).times == (2 + STEADY,)


def test_serving_for_a_while_counts_also_for_one_that_sleeps_then() -> None:
    """What it failed of before is not held against it when it is woken; a moment of serving, or sleep, is no such while."""
    ended = [(1.0, Phase.FAILED, 1), (2.0, Phase.READY, 2)]
    assert lived(*ended, (2 + STEADY, Phase.ASLEEP, 2)).times == ()
    slept = [*ended, (3.0, Phase.ASLEEP, 2), (900.0, Phase.STARTING, 3)]
    assert lived(*slept, (901.0, Phase.FAILED, 3)).times == (1, 901)


def test_the_end_of_its_host_is_no_failure_of_one_that_sleeps() -> None:
    """There was no process that could have failed."""
    assert lived((1.0, Phase.READY, 1), (2.0, Phase.ASLEEP, 1), (3.0, Phase.FAILED, 1)).times == ()
    asleep, gone = (Replica("r", Deployment("e", "m", 1), phase) for phase in (Phase.ASLEEP, Phase.FAILED))
    assert Crashes().then(asleep, replace(gone, permanent=True), 3.0).times == (3.0,)
