"""Envoys tell their load over a real stream, often when they are small, rarely when a report would take them long."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc.aio
import pytest

from controlplane.clock import FakeClock
from controlplane.discovery.hub import Hub
from controlplane.discovery.load_reports import answer, handler, interval
from controlplane.discovery.server import serve
from controlplane.domain import Address
from controlplane.domain.load import LoadReport
from controlplane.translate.resource import field_bytes, varint

NODE = field_bytes(1, field_bytes(1, b"envoy-1"))
METHOD = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"


def cluster(name: str, localities: bytes = b"") -> bytes:
    """One `ClusterStats` of a LoadStatsRequest."""
    return field_bytes(2, field_bytes(1, name.encode()) + localities)


@pytest.mark.parametrize(("clusters", "seconds"), [(0, 1), (1, 1), (2000, 1), (2001, 2), (20000, 10)])
def test_reports_come_the_more_rarely_the_longer_they_are(clusters: int, seconds: int) -> None:
    """Every second up to two thousand clusters; twenty thousand cost an Envoy no more a second than those."""
    assert interval(clusters) == seconds


def test_an_envoy_is_asked_once_and_again_when_it_has_grown() -> None:
    """The answer to the first request, and another only when the interval is to be another; loads are passed on."""
    heard: list[tuple[str, Sequence[LoadReport]]] = []

    async def run(folder: Path) -> None:
        server = await serve(
            Hub(FakeClock()),
            Address(path=str(folder / "xds")),
            [handler(lambda node, loads: heard.append((node, loads)))],
        )
        async with grpc.aio.insecure_channel(f"unix:{folder}/xds") as channel:
            stream = channel.stream_stream(METHOD)()
            await stream.write(NODE)
            assert await stream.read() == answer(1)
            below_zero = field_bytes(2, b"\x18" + varint(2**64 - 1))
            await stream.write(
                cluster("idle") + cluster("odd", below_zero) + cluster("busy", field_bytes(2, b"\x18\x03\x40\x05"))
            )
            await stream.write(b"".join(cluster(f"c{number}") for number in range(2001)))
            assert await stream.read() == answer(2)
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF
        await server.stop(0.1)

    folder = Path(tempfile.mkdtemp(prefix="wl"))
    try:
        asyncio.run(run(folder))
    finally:
        shutil.rmtree(folder)
    assert [node for node, _ in heard] == ["envoy-1"] * 4
    assert [[(load.cluster, load.in_progress, load.issued) for load in loads] for _, loads in heard] == [
        [],
        [("busy", 3, 5)],
        [],
        [],
    ]
