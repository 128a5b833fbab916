"""What becomes of a server that is asked for more than it can do?

A model of its user's own code that keeps a processor busy for 5 ms a row. First each server's saturation: the answers a
second that 16 connections get which always ask again. Then requests arrive at random times (Poisson) at 0.5, 1, 2 and 4 times
that rate, whether the ones before are answered or not, as from many users. Whoever has no answer within 2 s gives up and
hangs up. Goodput is what is answered with 200 in that time, a second; p99 is that of these answers. Wye is asked through Envoy
with its token checked, with one replica; `mlflow models serve` (one worker) and MLServer (one process) directly; each with
the machine to itself, one after the other. Last, the same with a second endpoint of Wye's beside the overloaded one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

import uvloop

from benchmarks import peers
from benchmarks.context import Context
from benchmarks.models import BODY, V2_BODY, artifacts, registered
from benchmarks.plot import lines
from benchmarks.report import Figure, Report, Table, percentile
from tests.e2e.wye import Wye, config

MULTIPLES = (0.5, 1.0, 2.0, 4.0)
#: Seconds after which nobody waits for an answer any more.
PATIENCE = 2.0
WYE, MLFLOW, MLSERVER = "Wye through Envoy", "mlflow models serve", "MLServer"
#: Connections that a saturation is measured with.
CROWD = 16


@dataclass
class Step:
    """What came of one rate of arrivals."""

    asked: float
    seconds: float
    good_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    other: int = 0
    late: int = 0

    @property
    def goodput(self) -> float:
        """Good answers in a second."""
        return len(self.good_ms) / self.seconds

    def p(self, percent: float) -> float:
        """A percentile of the good answers' times, ms; 0 without any."""
        return percentile(self.good_ms, percent) if self.good_ms else 0.0


class _Connection(asyncio.Protocol):
    """One request at a time; `ask` returns the status."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        self.transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = next((line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b"0")
        if len(body) >= int(length) and self._answer is not None and not self._answer.done():
            self._received = b""
            self._answer.set_result(int(head.split(None, 2)[1]))

    async def ask(self, request: bytes) -> int:
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _Asker:
    """Sends one request again and again over as many connections as that takes."""

    def __init__(self, url: str, body: str, token: str) -> None:
        where = urlsplit(url)
        self._where = where.hostname or "", where.port or 80
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._request = (
            f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\n{authorization}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        self._idle: list[_Connection] = []

    async def once(self, step: Step) -> None:
        """One request, counted in `step`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        connection = None
        try:
            async with asyncio.timeout(PATIENCE):
                connection = self._idle.pop() if self._idle else None
                if connection is None or connection.transport is None:
                    _, connection = await loop.create_connection(_Connection, *self._where)
                status = await connection.ask(self._request)
        except (OSError, TimeoutError) as error:
            step.late += isinstance(error, TimeoutError)
            step.other += not isinstance(error, TimeoutError)
            if connection is not None:
                connection.close()
            return
        self._idle.append(connection)
        took = (loop.time() - began) * 1e3
        if status == 200:
            step.good_ms.append(took)
        elif status == 429:
            step.refused_ms.append(took)
        else:
            step.other += 1

    async def saturation(self, seconds: float) -> float:
        """Good answers in a second to connections that always ask again."""
        step = Step(0, seconds)
        end = asyncio.get_running_loop().time() + seconds

        async def always() -> None:
            while asyncio.get_running_loop().time() < end:
                await self.once(step)

        await asyncio.gather(*(always() for _ in range(CROWD)))
        return step.goodput

    async def at(self, rate: float, seconds: float) -> Step:
        """Requests at random times, so many a second; returns when each has been answered or given up."""
        step = Step(rate, seconds)
        loop = asyncio.get_running_loop()
        source = random.Random(7)
        due = loop.time()
        end = due + seconds
        under_way: set[asyncio.Task[None]] = set()
        while (due := due + source.expovariate(rate)) < end:
            if (pause := due - loop.time()) > 0:
                await asyncio.sleep(pause)
            task = loop.create_task(self.once(step))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        return step

    async def calm(self) -> None:
        """Return when what was left behind is done: a request alone is answered again; at most half a minute."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while True:
                    step = Step(0, 1)
                    await self.once(step)
                    if step.good_ms and step.good_ms[0] < 100:
                        return

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


@dataclass
class Outcome:
    """One server's."""

    saturation: float
    steps: dict[float, Step]


async def _measure(asker: _Asker, seconds: float) -> Outcome:
    await asker.saturation(1)  # warm
    outcome = Outcome(await asker.saturation(seconds), {})
    for multiple in MULTIPLES:
        await asker.calm()
        outcome.steps[multiple] = await asker.at(outcome.saturation * multiple, seconds)
    await asker.calm()
    asker.close()
    return outcome


async def _neighbour(busy: _Asker, neighbour: _Asker, saturation: float, seconds: float) -> tuple[Step, Step]:
    """The neighbour alone, and while the other is at four times its saturation."""
    alone = await neighbour.at(100, seconds)
    beside, _ = await asyncio.gather(neighbour.at(100, seconds), busy.at(4 * saturation, seconds))
    for each in (busy, neighbour):
        each.close()
    return alone, beside


def run(context: Context) -> Report:
    report = Report("overload", "")
    seconds = 2.0 if context.quick else 6.0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    registry = registered(context.folder)
    found: dict[str, Outcome] = {}
    with ExitStack() as running:
        wye = Wye(context.folder / "s", registry=registry)
        running.callback(wye.stop)
        for name, model in (("busy", "busy/1"), ("neighbour", "linear/1")):
            wye.create(name, config({"m": 100}, m=model))

        def ours(name: str) -> _Asker:
            return _Asker(f"{wye.url}/serving-endpoints/{name}/invocations", BODY, wye.token)

        found[WYE] = uvloop.run(_measure(ours("busy"), seconds))
        context.say("Wye measured")
        both = uvloop.run(_neighbour(ours("busy"), ours("neighbour"), found[WYE].saturation, seconds))
    for name, url, body in _peers(registry, context, report):
        found[name] = uvloop.run(_measure(_Asker(url, body, ""), seconds))
        context.say(f"{name} measured")
    _tell(report, found, both, seconds)
    return report


def _peers(registry: str, context: Context, report: Report) -> Iterator[tuple[str, str, str]]:
    """Each with the machine to itself while it is used: name, URL, body."""
    path = artifacts(registry, "busy")
    with peers.mlflow_serving(path, context.folder) as (url, _):
        yield MLFLOW, url, BODY
    try:
        with peers.mlserver_serving({"busy": path}, context.folder) as (urls, _):
            yield MLSERVER, urls["busy"], V2_BODY
    except (peers.UnavailableError, RuntimeError, TimeoutError) as error:
        context.say(str(error))
        report.notes.append(str(error))


def _tell(report: Report, found: dict[str, Outcome], both: tuple[Step, Step], seconds: float) -> None:
    for name, outcome in found.items():
        steps = outcome.steps
        for multiple in (2.0, 4.0):
            value = steps[multiple].goodput / outcome.saturation
            label = f"goodput at {multiple:g} times saturation, against saturation, {name}"
            report.figures.append(Figure.at_least(label, value, 0.9, "x") if name == WYE else Figure(label, value, "x"))
        if steps[2.0].good_ms and steps[4.0].good_ms:
            value = steps[4.0].p(99) / steps[2.0].p(99)
            report.figures.append(Figure(f"p99 at 4 times saturation, against that at twice, {name}", value, "x"))
    ours = found[WYE].steps
    bad = sum(step.other + step.late for step in ours.values())
    report.figures.append(Figure.at_most("requests of Wye neither answered nor refused with 429", bad, 0, ""))
    alone, beside = both
    failed = beside.other + beside.late + len(beside.refused_ms)
    report.figures.append(Figure.at_most("failed requests of the neighbour of an overloaded endpoint", failed, 0, ""))
    report.tables = [
        Table(
            f"{seconds:g} s for each rate",
            (
                "Server",
                "times",
                "asked/s",
                "goodput/s",
                "p50, ms",
                "p99, ms",
                "refused",
                "p99 of these",
                "late",
                "failed",
            ),
            [
                [
                    name,
                    multiple,
                    step.asked,
                    step.goodput,
                    step.p(50),
                    step.p(99),
                    len(step.refused_ms),
                    percentile(step.refused_ms, 99) if step.refused_ms else "",
                    step.late,
                    step.other,
                ]
                for name, outcome in found.items()
                for multiple, step in outcome.steps.items()
            ],
        ),
        Table(
            "A linear model on the same Envoy, 100 requests a second",
            ("While the other endpoint is", "p50, ms", "p99, ms", "failed"),
            [
                ["idle", alone.p(50), alone.p(99), alone.other + alone.late + len(alone.refused_ms)],
                ["asked for 4 times its saturation", beside.p(50), beside.p(99), failed],
            ],
        ),
    ]
    report.data = {
        name: {"saturation": outcome.saturation, "steps": {str(m): asdict(s) for m, s in outcome.steps.items()}}
        for name, outcome in found.items()
    }
    report.plots["overload.svg"] = lines(
        "A model of 5 ms, asked for more and more",
        "times saturation",
        {
            "Goodput, times saturation": {
                name: [(multiple, step.goodput / outcome.saturation) for multiple, step in outcome.steps.items()]
                for name, outcome in found.items()
            },
            "p99 of good answers, ms": {
                name: [(multiple, step.p(99)) for multiple, step in outcome.steps.items()]
                for name, outcome in found.items()
            },
        },
    )
