"""A replica that looks for a new host, and hosts of all kinds."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from model_worker import orphanage as orphanages
from model_worker import pulse
from model_worker.orphan import ADOPTED, REFUSED, Fate, find_host
from model_worker.orphanage import Orphan, Orphanage, identity
from model_worker.protocol import Spec
from tests.model_worker.hosting import RunningHost


@pytest.fixture
def orphanage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where a host listens, as `orphanage` in the working directory: paths of sockets must be short."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("orphanage")
        listener.listen()
        listener.settimeout(30)
        yield listener


def says(word: bytes) -> Callable[[socket.socket], None]:
    """What a host does that hears an orphan out and says this; one that adopts it says hello through the channel."""

    def hear(connection: socket.socket) -> None:
        _, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 8)
        connection.sendall(word)
        if word == ADOPTED:
            os.write(descriptors[-1], b"hello")
        for each in descriptors:
            os.close(each)

    return hear


def dies(connection: socket.socket) -> None:
    """What a host does that ends when it has heard the orphan, and before it can say anything."""
    for each in socket.recv_fds(connection, 1 << 16, 8)[1]:
        os.close(each)


@pytest.mark.parametrize(
    ("hosts", "fate"),
    [
        ([says(ADOPTED)], Fate.ADOPTED),
        ([dies, dies, says(ADOPTED)], Fate.ADOPTED),
        ([dies, says(REFUSED)], Fate.REFUSED),
    ],
)
def test_an_orphan_looks_on_until_a_host_has_answered(
    orphanage: socket.socket, hosts: list[Callable[[socket.socket], None]], fate: Fate
) -> None:
    """One that dies while it takes it over has refused nothing; of one that adopts it the channel leads there."""

    def serve() -> None:
        for host in hosts:
            with orphanage.accept()[0] as connection:
                host(connection)

    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as serving:
        served = serving.submit(serve)
        found = find_host("orphanage", "{}", [theirs.fileno()], ours, grace=60)
        served.result()
        assert found is fate
        if fate is Fate.ADOPTED:
            assert ours.recv(16) == b"hello"


def test_an_orphan_is_alone_when_no_host_comes_in_time(tmp_path: Path) -> None:
    """It does not look for ever."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert find_host(str(tmp_path / "nowhere"), "{}", [], ours, grace=0.2) is Fate.ALONE


def test_what_a_refused_orphan_has_handed_over_is_closed_once(directory: Path) -> None:
    """A descriptor that is closed twice is by then somebody else's."""
    refused: list[Orphan] = []

    async def scenario() -> None:
        home = Orphanage(directory / "o", lambda orphan: bool(refused.append(orphan)))
        await home.open([])
        before = psutil.Process().num_fds()
        assert await asyncio.to_thread(comes_in, directory / "o", socket.AF_UNIX) is Fate.REFUSED
        assert [each.fileno() for each in (refused[0].listener, refused[0].channel)] == [-1, -1]
        assert psutil.Process().num_fds() == before
        await home.close()

    asyncio.run(scenario())


def test_an_orphan_on_a_port_is_refused_by_a_host_for_unix_sockets(host: RunningHost) -> None:
    """It ends, and nothing is in the way of another start of the same replica."""
    address = orphanages.address(host.sockets, host.directory / "l")
    assert comes_in(address, socket.AF_INET) is Fate.REFUSED
    assert "port-or-path" not in host.control().replicas


def comes_in(orphanage: Path, family: socket.AddressFamily) -> Fate:
    """What becomes of a replica with a listener of this kind that has lost its host."""
    ours, theirs = socket.socketpair()
    heart = pulse.make()
    with ours, theirs, socket.socket(family) as listener:
        known = identity(Spec("port-or-path", "/m"), "01234567-1", 1, orphanage.parent)
        try:
            return find_host(str(orphanage), known, [listener.fileno(), heart], ours, grace=60)
        finally:
            os.close(heart)
