"""Asks busy replicas how long their requests took, for the load history: the part that load reports do not tell.

One loop, which asks at most BUDGET replicas in each step and none that had no request since the last one, so that it costs
an idle endpoint nothing and many busy ones no more than a few.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.clock import Clock
from controlplane.domain import Address, Phase, Replica
from controlplane.domain.measurement import Histogram
from controlplane.load_history import RECENT, STEP, Key, LoadHistory
from controlplane.store import Endpoints

_log = logging.getLogger(__name__)

#: Replicas that are asked in one step, and at a time; seconds that each may take; bytes that it may answer.
BUDGET, AT_A_TIME, PATIENCE, LARGEST = 64, 8, 1.0, 256 * 1024
#: Replicas whose last answer is remembered.
MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Answered:
    """What a replica has counted since it started."""

    latency: Histogram
    #: Answers with 4xx.
    refused: int


class Sampler:
    """Feeds a LoadHistory with the latencies of the replicas that are busy."""

    def __init__(
        self,
        history: LoadHistory,
        endpoints: Endpoints,
        replicas_of: Callable[[str], tuple[Replica, ...]],
        clock: Clock,
    ) -> None:
        """`replicas_of` gives the replicas of the endpoint with that id."""
        self._history = history
        self._endpoints = endpoints
        self._replicas_of = replicas_of
        self._clock = clock
        self._before: dict[str, tuple[int, Answered]] = {}

    async def run(self) -> None:
        """Ask in each step, until cancelled."""
        while True:
            await asyncio.sleep(STEP)
            await self.sample()

    async def sample(self) -> None:
        """Ask the replicas that had requests since this was called last."""
        budget = BUDGET
        gate = asyncio.Semaphore(AT_A_TIME)
        async with asyncio.TaskGroup() as tasks:
            for name, key in self._history.take_active(self._clock.now_ms()):
                endpoint = self._endpoints.get(name)
                if endpoint is None or not endpoint.id.startswith(key[0]):
                    continue
                ready = [
                    replica
                    for replica in self._replicas_of(endpoint.id)
                    if replica.deployment.entity == key[1] and replica.phase is Phase.READY
                ]
                asked = ready if len(ready) <= budget else []
                budget -= len(asked)
                tasks.create_task(self._measure(name, key, len(ready), asked, gate))

    async def _measure(
        self, endpoint: str, key: Key, ready: int, asked: list[Replica], gate: asyncio.Semaphore
    ) -> None:
        """Note what these replicas say, unless it makes no sense: a model, too, can write to the metrics of its process."""
        try:
            await self._note(endpoint, key, ready, asked, gate)
        except (ValueError, ArithmeticError) as error:  # also the buckets of two replicas of different releases
            _log.debug("the latencies of %s cannot be used: %s", endpoint, error)

    async def _note(self, endpoint: str, key: Key, ready: int, asked: list[Replica], gate: asyncio.Semaphore) -> None:
        async def ask(replica: Replica) -> tuple[Replica, Answered | None]:
            async with gate:
                return replica, await _ask(replica.address)

        latency: Histogram | None = None
        refused = 0
        for replica, answered in await asyncio.gather(*map(ask, asked)):
            since = self._since_last(key, replica, answered) if answered is not None else None
            if since is not None:
                latency = since.latency if latency is None else latency + since.latency
                refused += since.refused
        self._history.measured(key, endpoint, self._clock.now_ms(), replicas=ready, refused=refused, latency=latency)

    def _since_last(self, key: Key, replica: Replica, answered: Answered) -> Answered | None:
        """What has come since the replica was asked last; all of it, if all of it is of the last minute."""
        if len(self._before) >= MOST_REMEMBERED:
            self._before.clear()
        attempt, before = self._before.get(replica.id, (0, None))
        self._before[replica.id] = replica.attempt, answered
        if before is not None and attempt == replica.attempt and before.latency.count <= answered.latency.count:
            return Answered(answered.latency - before.latency, max(0, answered.refused - before.refused))
        now_ms = self._clock.now_ms()
        recent = answered.latency.count <= self._history.issued(key, now_ms - 1000 * RECENT, now_ms)
        return answered if recent else None


def parse(text: str) -> Answered:
    """What a replica's metrics tell of its answers; raises ValueError when they are none."""
    buckets: list[tuple[float, int]] = []
    refused, total = 0, 0.0
    for line in text.splitlines():
        if line.startswith('request_latency_ms_bucket{le="'):
            bound, _, count = line.removeprefix('request_latency_ms_bucket{le="').partition('"} ')
            buckets.append((float(bound), int(count)))
        elif line.startswith("request_latency_ms_sum "):
            total = float(line.split(" ")[1])
        elif line.startswith('requests_answered_total{code="4'):
            refused += int(line.rpartition(" ")[2])
    if not buckets:
        raise ValueError("no latencies")
    return Answered(Histogram(tuple(buckets), total), refused)


async def _ask(address: Address | None) -> Answered | None:
    """What the replica at the address answers; None when it does not in time."""
    if address is None:
        return None
    try:
        async with asyncio.timeout(PATIENCE):
            return parse(await _get(address))
    except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None  # it is busy or going; the next step asks again


async def _get(address: Address) -> str:
    """The body of `GET /metrics`."""
    if address.path:
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(b"GET /metrics HTTP/1.1\r\nhost: replica\r\nconnection: close\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        fields: Mapping[str, str] = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        size = int(fields.get("content-length", "0"))
        if size > LARGEST:
            raise ValueError("too long")
        return (await reader.readexactly(size)).decode()
    finally:
        writer.close()
