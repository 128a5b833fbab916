"""A replica that looks for a new host, and hosts of all kinds."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_worker.orphan import ADOPTED, REFUSED, Fate, find_host


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
