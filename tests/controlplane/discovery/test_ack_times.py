"""How long answers to configurations take."""

from controlplane.clock import FakeClock
from controlplane.discovery.ack_times import BOUNDS, AckTimes


def test_times_are_counted_from_sending_to_the_answer():
    """By type; a refusal is an answer too, and one to nothing that was sent is none."""
    clock = FakeClock()
    times = AckTimes(clock)
    times.sent(1)
    clock.advance(0.004)
    times.sent(2)
    clock.advance(0.016)
    times.answered("cds", 1, refused=False)
    times.answered("rds", 2, refused=True)
    times.answered("rds", 2, refused=True)
    found = {name: (histogram, refused) for name, histogram, refused in times.read()}
    cds, rds = found["cds"], found["rds"]
    assert (cds[0].count, cds[1], rds[0].count, rds[1]) == (1, 0, 1, 2)
    assert abs(cds[0].sum - 0.02) < 1e-6
    assert next(bound for bound, count in rds[0].buckets if count) == 0.025


def test_what_is_never_answered_is_forgotten():
    """A client need not answer every response: its newest answer may speak for all."""
    times = AckTimes(FakeClock())
    for seq in range(1000):
        times.sent(seq)
    times.answered("cds", 1, refused=False)
    times.answered("cds", 999, refused=False)
    ((_, histogram, _),) = times.read()
    assert histogram.count == 1
    assert len(histogram.buckets) == len(BOUNDS) + 1
