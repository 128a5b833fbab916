"""A host that has no descriptors left: it goes on, and does what it could not do when it has some again."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from model_worker import fork_servers, host, listeners
from model_worker.fork_servers import ForkServers
from model_worker.host import Host
from model_worker.keeping import Keeping
from model_worker.listeners import ListenerError, UnixListeners
from model_worker.logs import Logs
from model_worker.measured import Measured
from model_worker.options import parse
from model_worker.orphan import Fate, find_host
from model_worker.orphanage import Orphanage, identity
from model_worker.protocol import Spec
from model_worker.pulse import Patience
from model_worker.replica_process import ReplicaProcess
from tests.model_worker.hosting import PATIENCE, RunningHost


class NoneLeft:
    """A function that the kernel gives no descriptor, and how often it has been tried."""

    def __init__(self) -> None:
        self.tries = 0

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Fail as any open() then does."""
        self.tries += 1
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def until(condition: Callable[[], bool]) -> None:
    """Return when it is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)


def test_a_host_may_have_as_many_as_the_system_allows() -> None:
    """Whatever the shell says that it was started from; so may the processes that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        running = RunningHost()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        process = psutil.Process(running.process.pid)
        assert {each.rlimit(psutil.RLIMIT_NOFILE) for each in (process, *process.children())} == {(hard, hard)}
    finally:
        running.end()


def test_what_a_host_does_again_and_again_survives_its_errors(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Replicas, the machine and log files are looked at again, each as often as before, and an error is told once."""
    monkeypatch.setattr(host, "_LOOK_INTERVAL", 0.0)
    monkeypatch.setattr(host, "_LOOKS_TO_MEASURE", 2)
    options = parse([f"--listen=unix:{directory}/h", f"--socket-dir={directory}", f"--log-dir={directory}/l"])
    failing = [NoneLeft() for _ in range(3)]
    for fails, (owner, name) in zip(
        failing, ((ReplicaProcess, "look"), (Measured, "look"), (Logs, "cut")), strict=True
    ):
        monkeypatch.setattr(owner, name, fails)

    async def scenario() -> None:
        running = Host(options, UnixListeners(directory, longest_name=17), {})
        running._new(Spec("r", "/m"), "01234567-1")._process = ReplicaProcess.__new__(ReplicaProcess)
        looking = asyncio.create_task(running._look())
        await until(lambda: looking.done() or all(fails.tries >= 3 for fails in failing))
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking

    asyncio.run(scenario())
    assert caplog.text.count("Too many open files") == len(failing)


def test_idle_fork_servers_are_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it was not known once how much memory is free."""
    fails = NoneLeft()
    monkeypatch.setattr(fork_servers.psutil, "virtual_memory", fails)

    async def scenario() -> None:
        servers = ForkServers({}, Patience(), log_dir=tmp_path, directory=tmp_path, idle=0.0)
        ending = asyncio.create_task(servers._end_superfluous())
        await until(lambda: ending.done() or fails.tries >= 3)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending

    asyncio.run(scenario())


def test_a_socket_that_cannot_be_had_is_a_replicas_failure(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as any other reason why a replica cannot listen, after which it may be started again."""
    monkeypatch.setattr(listeners.socket, "socket", NoneLeft())
    with pytest.raises(ListenerError, match="Too many open files"):
        UnixListeners(directory, longest_name=17).open("01234567-1")


def test_living_replicas_of_a_former_host_come_in_as_soon_as_there_are_some(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes when none is left waits, instead of being taken for dead with all who come later."""
    none_left = NoneLeft()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        accept = loop.sock_accept
        monkeypatch.setattr(loop, "sock_accept", lambda each: accept(each) if none_left.tries else none_left())
        home = Orphanage(directory / "o", lambda _: False)
        await home.open([])
        ours, theirs = socket.socketpair()
        with ours, theirs:
            orphan = (str(directory / "o"), identity(Spec("r", "/m"), "01234567-1", 1, directory))
            fate = await asyncio.to_thread(find_host, *orphan, [theirs.fileno(), theirs.fileno()], ours, PATIENCE)
        await home.close()
        assert fate is Fate.REFUSED

    asyncio.run(scenario())


def test_a_host_that_may_have_fewer_than_its_predecessor_starts(directory: Path) -> None:
    """What the kernel has dropped of the sockets that were kept is lost, and nothing else."""

    def keep(keeper: socket.socket, kept: socket.socket) -> None:
        with keeper.accept()[0] as successor:
            socket.send_fds(successor, [b'{"kept": "a"}\n'], [kept.fileno()])
            successor.sendall(b'{"kept": "b"}\n')
            successor.settimeout(PATIENCE)
            successor.recv(1)  # until it hangs up

    with socket.socket(socket.AF_UNIX) as keeper, socket.socket(socket.AF_UNIX) as kept, ThreadPoolExecutor(1) as other:
        keeper.bind(str(directory / "k"))
        keeper.listen()
        keeping = other.submit(keep, keeper, kept)
        found = asyncio.run(Keeping(directory / "k", 1.0, directory).take())
        assert list(found) == ["a"]
        found["a"].close()
        keeping.result()
