"""What a replica counts, as Prometheus text. A request costs a few microseconds here, whatever is scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

#: Milliseconds; the first are for models that take microseconds, the last for those that take minutes.
_MILLISECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 60000, 600000)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    """Values counted by size."""

    __slots__ = ("_bounds", "_counts", "_help", "_name", "_sum")

    def __init__(self, name: str, help_text: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._help = help_text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self) -> Iterator[str]:
        """The exposition, cumulative as Prometheus wants it."""
        yield f"# HELP {self._name} {self._help}"
        yield f"# TYPE {self._name} histogram"
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{self._name}_bucket{{le="{bound}"}} {total}'
        yield f"{self._name}_sum {self._sum:.6g}"
        yield f"{self._name}_count {total}"


class Metrics:
    """All that one replica counts; written by the event loop's thread alone."""

    def __init__(self) -> None:
        self.queue = Histogram("model_queue_time_ms", "Time that requests waited for the model.", _MILLISECONDS)
        self.parse = Histogram("model_parse_time_ms", "Time to read requests.", _MILLISECONDS)
        self.predict = Histogram(
            "model_prediction_latency_ms", "Time in the model; requests of one batch share it.", _MILLISECONDS
        )
        self.serialize = Histogram("model_serialize_time_ms", "Time to write answers.", _MILLISECONDS)
        self.latency = Histogram("request_latency_ms", "Time from a request's last byte to its answer.", _MILLISECONDS)
        self.batch_requests = Histogram("model_batch_requests", "Requests of one prediction.", _SIZES)
        self.batch_rows = Histogram("model_batch_rows", "Rows of one prediction.", _SIZES)
        self.in_flight = 0
        self._statuses: dict[int, int] = {}

    def answered(self, status: int) -> None:
        """Count an answer."""
        self._statuses[status] = self._statuses.get(status, 0) + 1

    def batch(self, requests: int, rows: int) -> None:
        """Count a prediction."""
        self.batch_requests.observe(requests)
        self.batch_rows.observe(rows)

    def text(self) -> str:
        """All of it, in Prometheus' text format."""
        lines = [
            "# HELP requests_in_flight Requests that are not answered yet.",
            "# TYPE requests_in_flight gauge",
            f"requests_in_flight {self.in_flight}",
            "# HELP requests_answered_total Answers by HTTP status.",
            "# TYPE requests_answered_total counter",
            *(f'requests_answered_total{{code="{code}"}} {count}' for code, count in sorted(self._statuses.items())),
        ]
        for histogram in (
            *(self.latency, self.queue, self.parse, self.predict, self.serialize),
            *(self.batch_requests, self.batch_rows),
        ):
            lines += histogram.lines()
        return "\n".join(lines) + "\n"
