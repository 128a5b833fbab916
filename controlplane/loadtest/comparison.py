"""Whether one served model is slower than another, or only was by chance. Values in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.loadtest import intervals
from controlplane.loadtest.histogram import Histogram
from controlplane.loadtest.tally import Slice

#: Answers of each of the two that a stretch of time must have for its median to mean something, and for a 99th percentile.
_ENOUGH = {0.5: 10, 0.99: 200}
#: A stretch is not made longer than leaves so many of them.
_FEWEST = 6


@dataclass(frozen=True, slots=True)
class Difference:
    """How much slower the second is at one quantile; nanoseconds, negative when it is quicker."""

    quantile: float
    first: float
    second: float
    #: Stretches of time in which both were measured, and in how many of them the second was slower.
    stretches: int
    slower: int
    #: The median over stretches of the difference, and its confidence interval; None when there are too few stretches.
    difference: float | None
    low: float | None
    high: float | None

    @property
    def real(self) -> bool:
        """True when chance does not explain it."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two served models under the same load at the same time."""

    first: str
    second: str
    differences: tuple[Difference, ...]
    #: The chance that an answer of the first is quicker than one of the second; a half when they are alike.
    first_quicker: float

    @property
    def words(self) -> str:
        """The verdict, in words for people."""
        return " ".join(filter(None, (_of_median(self), *(_of_tail(self, each) for each in self.differences[1:]))))


def compare(first: str, second: str, slices: Sequence[Slice]) -> Comparison:
    """What the two targets of a test show.

    The two have taken turns, so whatever slows the machine down for a while meets both: they are compared stretch by stretch.
    Comparing all requests at once, as if each were a trial of its own, would find "significant" what one busy second did.
    """
    whole = [Histogram.sum(each.latencies[at] for each in slices) for at in (0, 1)]
    return Comparison(
        first,
        second,
        tuple(_difference(quantile, slices, whole) for quantile in (0.5, 0.99)),
        whole[0].faster_than(whole[1]),
    )


def _difference(quantile: float, slices: Sequence[Slice], whole: Sequence[Histogram]) -> Difference:
    pairs = _stretches(slices, _ENOUGH[quantile])
    found = [b.quantile(quantile) - a.quantile(quantile) for a, b in pairs]
    interval = intervals.median(found)
    middle, low, high = interval if interval is not None else (None, None, None)
    first, second = (each.quantile(quantile) for each in whole)
    return Difference(quantile, first, second, len(found), sum(each > 0 for each in found), middle, low, high)


def _stretches(slices: Sequence[Slice], enough: int) -> list[tuple[Histogram, Histogram]]:
    """The two's latencies in stretches of time that are as short as leaves enough in most of them."""
    pairs: list[tuple[Histogram, Histogram]] = []
    for together in (1, 2, 3, 5, 10):
        groups = [slices[at : at + together] for at in range(0, len(slices), together)]
        joined = [[Histogram.sum(each.latencies[at] for each in group) for at in (0, 1)] for group in groups]
        pairs = [(a, b) for a, b in joined if min(a.count, b.count) >= enough]
        if len(pairs) >= max(_FEWEST, len(groups) // 2):
            break
    return pairs


def _of_median(comparison: Comparison) -> str:
    first, second = comparison.first, comparison.second
    middle = comparison.differences[0]
    if middle.difference is None or middle.low is None or middle.high is None:
        return f"Too few answers to say anything of {first} and {second}: test for longer, or at a higher rate."
    by = f"{_ms(abs(middle.difference))} at the median ({_percent(middle)}; 95 % sure: {_range(middle)})"
    chance = f"an answer of {first} is the quicker of two with a chance of {comparison.first_quicker:.0%}"
    if middle.real:
        word, count = (
            ("slower", middle.slower) if middle.difference > 0 else ("faster", middle.stretches - middle.slower)
        )
        return f"{second} is {word} than {first} by {by}: it was so in {count} of {middle.stretches} stretches of time, and {chance}."
    return (
        f"No difference in latency can be told: {second} came out {_ms(abs(middle.difference))} "
        f"{'slower' if middle.difference > 0 else 'faster'} than {first} at the median, but anything in {_range(middle)} fits what "
        f"was seen ({second} was slower in {middle.slower} of {middle.stretches} stretches of time), and {chance}."
    )


def _of_tail(comparison: Comparison, tail: Difference) -> str:
    if tail.difference is None or not tail.real:
        return ""
    word = "slower" if tail.difference > 0 else "faster"
    return f"At p{100 * tail.quantile:g} {comparison.second} is {word} by {_ms(abs(tail.difference))} (95 % sure: {_range(tail)})."


def _percent(difference: Difference) -> str:
    if not difference.first or difference.difference is None:
        return "of nothing"
    return f"{difference.difference / difference.first:+.1%}"


def _range(difference: Difference) -> str:
    assert difference.low is not None
    assert difference.high is not None
    return f"{difference.low / 1e6:+.3f} to {difference.high / 1e6:+.3f} ms"


def _ms(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:.3f} ms"
