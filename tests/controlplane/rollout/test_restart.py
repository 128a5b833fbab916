"""When a failed replica is started again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.rollout.restart import ATTEMPTS, LONGEST_DELAY, WINDOW, Again, GiveUp, verdict

NOW = 1_000.0


@pytest.mark.parametrize(
    ("failures", "permanent", "serving", "expected"),
    [
        pytest.param((NOW,), False, True, Again(NOW), id="a first crash is followed by a start at once"),
        pytest.param((NOW,), False, False, Again(NOW), id="also before it has ever served"),
        pytest.param((NOW - 1, NOW), False, True, Again(NOW + 0.5), id="a second one waits a little"),
        pytest.param((NOW - 2, NOW - 1, NOW), False, True, Again(NOW + 1.0), id="a third one longer"),
        pytest.param((NOW - WINDOW, NOW), False, True, Again(NOW), id="old failures no longer count"),
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
