"""What a load test counts while it runs. A request costs a microsecond or two here; memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from controlplane.loadtest.histogram import Histogram

#: Into so many equal stretches of time a test is divided, for plots and for comparing.
SLICES = 60
#: What a replica tells in `server-timing`.
PHASES = ("parse", "queue", "predict", "serialize")
#: Everything else: the network, Envoy, and waiting for either.
REST = "rest"


@dataclass(slots=True)
class Slice:
    """One stretch of time."""

    #: Answers that arrived in it, good and bad (failures to get one included).
    answered: int = 0
    failed: int = 0
    #: By target: latencies of requests that were due in it.
    latencies: list[Histogram] = field(default_factory=list)


@dataclass(slots=True)
class Failures:
    """One kind of failure."""

    count: int = 0
    #: What the first one said.
    message: str = ""


class Tally:
    """Counts of one load test of `targets` targets that is to take so many seconds."""

    def __init__(self, targets: int, seconds: float) -> None:
        self.width = max(1, int(seconds * 1e9 / SLICES))
        self._targets = targets
        self.slices = [self._slice()]
        #: Latencies of good answers, by target, and by the served model that gave them ("" when none is named).
        self.latencies = [Histogram() for _ in range(targets)]
        self.models: dict[str, Histogram] = {}
        #: Answers by the model that is named in them, errors included: what the split did.
        self.chosen: dict[str, int] = {}
        self.phases = {phase: Histogram() for phase in (*PHASES, REST)}
        self.failures: dict[str, Failures] = {}
        self.sent = 0
        #: How late the test itself was in sending what was due.
        self.lateness = Histogram()

    @property
    def succeeded(self) -> int:
        """Good answers."""
        return sum(each.count for each in self.latencies)

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return sum(each.count for each in self.failures.values())

    def answered(self, target: int, due: int, now: int, model: str, timing: bytes) -> None:
        """A good answer at `now` to what was due at `due`, both in nanoseconds from the beginning."""
        latency = now - due
        self._at(now).answered += 1
        self._at(due).latencies[target].record(latency)
        self.latencies[target].record(latency)
        of_model = self.models.get(model)
        if of_model is None:
            of_model = self.models[model] = Histogram()
        of_model.record(latency)
        self.chosen[model] = self.chosen.get(model, 0) + 1
        if timing:
            self._timing(timing, latency)

    def refused(self, now: int, kind: str, message: str, model: str = "") -> None:
        """Something else than a good answer."""
        at = self._at(now)
        at.failed += 1
        failures = self.failures.get(kind)
        if failures is None:
            failures = self.failures[kind] = Failures(0, message)
        failures.count += 1
        if model:
            self.chosen[model] = self.chosen.get(model, 0) + 1

    def _timing(self, timing: bytes, latency: int) -> None:
        """Count `parse;dur=0.013, queue;dur=…` (milliseconds)."""
        known = 0
        for part in timing.split(b","):
            name, _, value = part.partition(b";dur=")
            phase = self.phases.get(name.strip().decode("latin-1"))
            if phase is None:
                continue
            try:
                took = int(float(value) * 1e6)
            except (ValueError, OverflowError):
                continue
            phase.record(took)
            known += took
        self.phases[REST].record(latency - known)

    def _at(self, when: int) -> Slice:
        index = max(0, when // self.width)
        slices = self.slices
        # After the end of the test there is only a rest of answers.
        index = min(SLICES, index)
        while len(slices) <= index:
            slices.append(self._slice())
        return slices[index]

    def _slice(self) -> Slice:
        return Slice(latencies=[Histogram() for _ in range(self._targets)])


def latencies(slices: Iterable[Slice], target: int | None = None) -> Histogram:
    """The latencies of these slices, of one target or of all."""
    return Histogram.sum(
        each for part in slices for at, each in enumerate(part.latencies) if target is None or at == target
    )
