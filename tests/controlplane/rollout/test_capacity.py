"""No entity has more replicas than its machine has room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain import Deployment, Machine
from controlplane.rollout.autoscale import Scale, cap
from controlplane.rollout.capacity import Claims, Room, room

GB = 1024**3
MB = 1024**2


def machine(available: int, processors: int = 2, **taken: int) -> Machine:
    """One of 10 GB, of which 1 GB is left alone."""
    return Machine(processors, 10 * GB, available, taken)


def test_memory_is_for_as_many_as_are_measured_to_fit() -> None:
    """Those that run, and one more for each size of the largest of them in what is free."""
    found = room(machine(3 * GB, a=300 * MB, b=500 * MB, other=4 * GB), ["a", "b"], 0)
    assert found.most == 2 + 4
    assert found.why == "3,072 MB of its memory are free, of which 1,024 MB stay so, and a replica takes 500 MB"
    assert room(machine(2 * GB), [], 0).most == 8  # nothing is known of it
    assert room(machine(2 * GB), ["new"] * 5, 0).most == 8  # what has just been started is not in the measurement


def test_processors_are_for_so_many() -> None:
    """However much memory there is; 0 is no such limit."""
    found = room(machine(9 * GB, processors=2), [], 8)
    assert found == Room(16, "its 2 processors are for 16 of an entity (WYE_REPLICAS_PER_PROCESSOR)")


@given(
    st.integers(0, 10 * GB),
    st.integers(1, 64),
    st.dictionaries(st.text(), st.none() | st.integers(0, 10 * GB), max_size=5),
    st.integers(1, 16),
)
def test_nobody_is_sent_away_for_lack_of_memory(
    available: int, processors: int, running: dict[str, int | None], per_processor: int
) -> None:
    """The first replica is always tried, and those that run have their room, whatever is measured of them."""
    taken = {replica: size for replica, size in running.items() if size is not None}
    found = room(Machine(processors, 10 * GB, available, taken), running, per_processor)
    assert found.most >= max(1, min(len(running), processors * per_processor))


def test_a_replica_that_is_ending_says_nothing_of_the_next() -> None:
    """Measured when it has ended, it takes nothing: as much as one is taken for that was not measured."""
    assert room(machine(2 * GB, ended=0), ["ended"], 0) == room(machine(2 * GB), ["ended"], 0)


def test_a_cap_says_why_and_is_looked_at_again() -> None:
    """What is not capped is as it was."""
    assert cap(Scale(3), None, 5.0) == Scale(3)
    assert cap(Scale(3, 7.0), Room(3, "because"), 5.0) == Scale(3, 7.0)
    capped = cap(Scale(4), Room(2, "it is small"), 5.0)
    assert (capped.replicas, capped.ask_again_at) == (2, 15.0)
    assert capped.capped == "Capped at 2 of 4 replicas: the machine has no room for more; it is small."
    assert cap(Scale(0), Room(1, ""), 5.0) == Scale(0)


def test_what_starts_at_once_is_weighed_together() -> None:
    """Room that one entity was granted is not granted to the next before it is measured, nor is it counted twice after."""
    one, two = Deployment("e", "one", 1), Deployment("e", "two", 1)
    before, claims = machine(3 * GB, a=500 * MB), Claims()
    assert claims.of_others(two, 0.0) == 0
    assert room(before, ["a"], 0).most == 5
    claims.claim(one, 4, before, ["a"], 0.0)
    assert claims.of_others(one, 1.0) == 0
    assert claims.of_others(two, 1.0) == 3 * 500 * MB
    found = room(before, [], 0, claims.of_others(two, 1.0))
    assert found.most == 4
    assert "replicas of others that are starting get 1,500 MB, and a replica takes 128 MB" in found.why
    claims.claim(one, 4, machine(3 * GB, a=500 * MB, b=500 * MB), ["a", "b", "c"], 5.0)
    assert claims.of_others(two, 6.0) == 2 * 500 * MB
    # One that takes long to load has taken its memory by now, whatever is asked meanwhile.
    claims.claim(one, 4, machine(3 * GB, a=500 * MB, b=500 * MB), ["a", "b", "c"], 34.0)
    assert claims.of_others(two, 36.0) == 0
    claims.claim(one, 1, before, ["a"], 37.0)
    assert claims.of_others(two, 37.0) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.sampled_from([0.0, 1.0, 29.0, 31.0, 3600.0]))))
def test_claims_add_up(steps: list[tuple[str, int, float]]) -> None:
    """Whatever is claimed when: others have claimed the sum of what was new less than 30 s ago; an hour later it is new again."""
    claims, now, empty = Claims(), 0.0, machine(3 * GB)
    plain: dict[str, tuple[int, float]] = {}
    for name, replicas, pause in steps:
        now += pause
        plain = {each: (need, at) for each, (need, at) in plain.items() if now - at < 3600}
        for other in "abc":
            expected = sum(need for each, (need, at) in plain.items() if each != other and now - at < 30)
            assert claims.of_others(Deployment("e", other, 1), now) == expected
        claims.claim(Deployment("e", name, 1), replicas, empty, [], now)
        if plain.get(name, (0, 0.0))[0] != replicas * 128 * MB:
            plain[name] = (replicas * 128 * MB, now)
