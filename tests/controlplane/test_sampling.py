"""The sampler asks replicas, which may say anything: a model shares the process with what counts its requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.clock import FakeClock
from controlplane.domain import Address, Deployment, Endpoint, Phase, Replica
from controlplane.domain.load import LoadReport
from controlplane.load_history import LoadHistory
from controlplane.rollout import lifecycle
from controlplane.sampling import Sampler
from controlplane.store import Endpoints, Store
from controlplane.watch import WatchedMap
from tests import listening

ENDPOINT = lifecycle.create(endpoint_id="0123abcd" * 4, name="ep", creator="me", now_ms=0)
KEY = ("0123abcd", "m")


def metrics(*buckets: tuple[object, object], refused: object = 0) -> str:
    """What a replica answers."""
    lines = [f'request_latency_ms_bucket{{le="{bound}"}} {count}' for bound, count in buckets]
    return "\n".join([*lines, f'requests_answered_total{{code="400"}} {refused}', ""])


async def sampled(folder: Path, *answers: list[str]) -> LoadHistory:
    """What the history has when each replica has given its answers, one each time that it was asked."""
    servers = []
    for number, texts in enumerate(answers):
        said = iter(texts)

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: Iterator[str] = said) -> None:
            await reader.readuntil(b"\r\n\r\n")
            text = next(said)
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())
            await writer.drain()
            writer.close()

        servers.append(await asyncio.start_unix_server(take, folder / str(number)))
    replicas = tuple(
        Replica(f"r{number}", Deployment(ENDPOINT.id, "m", 1), Phase.READY, Address(path=str(folder / str(number))), 1)
        for number in range(len(answers))
    )
    history, clock = LoadHistory(), FakeClock()
    with Store(f"sqlite:///{folder}/wye.db") as store:
        endpoints = Endpoints(store, WatchedMap[str, Endpoint]())
        endpoints.insert(ENDPOINT)
        sampler = Sampler(history, endpoints, lambda _: replicas, clock)
        for _ in range(len(answers[0])):
            history.heard("envoy", [LoadReport("envoy", "ep/m@1.0123abcd", 1.0, 5, 5, 0, 1)], clock.now_ms())
            await sampler.sample()
    for server in servers:
        await listening.close(server)
    return history


GOOD = metrics((1, 4), ("+Inf", 4))


@pytest.mark.parametrize(
    "answers",
    [
        [[metrics((1, 0), ("+Inf", 0)), metrics((1, 1), (2, 1), ("+Inf", 1))]],
        [[GOOD], [metrics((1, 1), (2, 1), ("+Inf", 1))]],
        [[metrics((1, 1), ("+Inf", 1), refused=10**30)]],
        [[metrics((1, 10**400), ("+Inf", 10**400))]],
        [["nothing"]],
    ],
    ids=[
        "other buckets than before",
        "buckets of two releases",
        "a huge count",
        "more than a float can be",
        "no metrics",
    ],
)
def test_what_makes_no_sense_is_left_out(tmp_path: Path, answers: list[list[str]]) -> None:
    """The sampler goes on; what Envoys report of the load is there all the same."""
    history = asyncio.run(sampled(tmp_path, *answers))
    assert history.recent([KEY], FakeClock().now_ms()).requests == 5 * len(answers[0])


def test_latencies_of_replicas_are_added_up(tmp_path: Path) -> None:
    """All of them together make the quantiles."""
    history = asyncio.run(sampled(tmp_path, [GOOD], [metrics((1, 0), ("+Inf", 1))]))
    recent = history.recent([KEY], FakeClock().now_ms())
    assert (recent.requests, recent.p50) == (5, pytest.approx(0.625))
