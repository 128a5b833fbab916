"""Which fork servers stay: those that work, and of the idle ones those that sleeping replicas will need, within bounds."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from model_worker import fork_servers
from model_worker.environments import BASE, Environment
from model_worker.fork_servers import ForkServers, superfluous
from model_worker.forks import ForkServer
from model_worker.pulse import Patience
from model_worker.variables import fork_server_variables


@pytest.mark.parametrize(
    ("idle", "warm", "ended"),
    [
        ({}, 2, []),
        # A replica that crashed may have a successor; nobody else will come.
        ({"unneeded": 59.0}, 2, []),
        ({"unneeded": 60.0}, 2, ["unneeded"]),
        # Sleeping replicas will: however long they have slept, as long as others have not slept shorter.
        ({"a": 9000.0, "b": 70.0}, 2, []),
        ({"a": 9000.0, "b": 70.0, "c": 61.0}, 2, ["a"]),
        ({"a": 9000.0, "b": 70.0, "c": 2.0}, 2, ["a"]),
        ({"a": 50.0, "b": 40.0, "c": 2.0}, 2, []),
        ({"a": 9000.0, "unneeded": 61.0}, 1, ["unneeded"]),
        ({"a": 60.0}, 0, ["a"]),
    ],
)
def test_which_are_superfluous(idle: dict[str, float], warm: int, ended: list[str]) -> None:
    """After a minute those that nobody needs, and the longest idle of more than are to be kept."""
    assert superfluous(idle, {"a", "b", "c"}, warm, 60.0) == ended


def test_the_last_used_stays_for_those_who_sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that sleeping replicas need, one may stay: the longest idle ends, the other when its replicas are gone."""
    needed = {"a", "b"}
    monkeypatch.setattr(fork_servers, "_memory_is_scarce", lambda: False)

    async def scenario() -> None:
        servers = ForkServers(
            fork_server_variables({}),
            Patience(),
            log_dir=tmp_path,
            directory=tmp_path,
            warm=1,
            needed=lambda: needed,
            idle=0.3,
        )
        running = asyncio.create_task(servers.run())
        processes = {}
        for key in ("a", "b"):
            async with servers.of(Environment(key, sys.executable)) as server:
                while server.pid is None:  # noqa: ASYNC110 - a process of its own has no event
                    await asyncio.sleep(0.005)
                processes[key] = server.pid
        await gone(processes["a"])
        assert psutil.pid_exists(processes["b"])
        async with servers.of(Environment("b", sys.executable)) as server:
            assert server.pid == processes["b"]
            needed.clear()
        await gone(processes["b"])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


def test_a_fork_server_that_ends_by_a_signal_without_a_name_has_a_successor(tmp_path: Path) -> None:
    """Real-time signals are told by their numbers."""

    async def scenario() -> None:
        server = ForkServer(BASE, {}, Patience(), log=tmp_path / "log", directory=tmp_path)
        running = asyncio.create_task(server.run())
        while server.pid is None:  # noqa: ASYNC110 - a process of its own has no event
            await asyncio.sleep(0.005)
        os.kill(server.pid, signal.SIGRTMIN + 3)
        while not (running.done() or server.last_failure):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)
        assert server.last_failure == f"the fork server was killed by signal {signal.SIGRTMIN + 3}"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())


def test_a_fork_server_is_tried_again_when_no_thread_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that waits for its end, which asyncio may need; there may be none for a while."""
    tries, again = iter(range(2)), asyncio.Event()

    async def no_thread(*_: object, **__: object) -> NoReturn:
        if next(tries):
            again.set()
        raise RuntimeError("can't start new thread")

    async def scenario() -> None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", no_thread)
        server = ForkServer(BASE, {}, Patience(), log=tmp_path / "log", directory=tmp_path)
        running = asyncio.create_task(server.run())
        await asyncio.wait([running, asyncio.create_task(again.wait())], return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())


async def gone(pid: int) -> None:
    """Return when a process has ended."""
    async with asyncio.timeout(60):
        while psutil.pid_exists(pid):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
