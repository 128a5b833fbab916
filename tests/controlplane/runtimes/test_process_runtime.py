"""The process runtime against hosts that misbehave; with a real host it is tested in tests/model_worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from controlplane.domain import Address, Deployment, Phase, Replica, ReplicaSpec
from controlplane.runtimes import Fleet
from controlplane.runtimes.process import OutOfReachError, ProcessRuntime
from tests import listening

HELLO = {"type": "hello", "protocol": 1, "host_id": "h", "pid": 1, "replicas": []}
STATE = {
    "id": "r1",
    "identity": {"endpoint_id": "e", "entity": "current", "generation": 2},
    "title": "t",
    "phase": "READY",
    "address": {"host": "127.0.0.1", "port": 4000},
    "pid": 5,
    "message": "",
    "permanent": False,
    "attempt": 1,
    "holds_connections": True,
}
REPLICA = Replica(
    "r1", Deployment("e", "current", 2), Phase.READY, Address(host="127.0.0.1", port=4000), 5, holds_connections=True
)
SPEC = ReplicaSpec("r1", Deployment("e", "current", 2), "multi/current", "/m", "a", "1", (("A", "1"),))


class ScriptedHost:
    """A host of which the test says every word."""

    def __init__(self) -> None:
        self._connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note a connection."""
        self._writers.append(writer)
        self._connections.put_nowait((reader, writer))

    async def connected(self, hello: dict[str, Any] | bytes) -> None:
        """Wait for the next connection and greet it."""
        self._reader, self._writer = await self._connections.get()
        self.say(hello)

    def say(self, message: dict[str, Any] | bytes) -> None:
        """Send a message, or what is none."""
        assert self._writer is not None
        self._writer.write(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")

    async def hear(self) -> dict[str, Any]:
        """The next command."""
        assert self._reader is not None
        command: dict[str, Any] = json.loads(await self._reader.readline())
        return command

    def hang_up(self) -> None:
        """Close the connection."""
        assert self._writer is not None
        self._writer.close()

    async def end(self) -> None:
        """Leave no connection."""
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


@asynccontextmanager
async def rig(silence: float = 15.0) -> AsyncIterator[tuple[ScriptedHost, ProcessRuntime, Fleet]]:
    """A scripted host and a runtime that connects to it."""
    host, fleet = ScriptedHost(), Fleet()
    server = await asyncio.start_server(host.take, "127.0.0.1", 0)
    runtime = ProcessRuntime(Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1]), fleet, silence)
    running = asyncio.create_task(runtime.run())
    try:
        async with asyncio.timeout(60):
            yield host, runtime, fleet
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await listening.close(server)
        await host.end()


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fails after a minute."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it may be about anything
            await asyncio.sleep(0.001)


def scenario(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an asynchronous test."""

    def run() -> None:
        asyncio.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@scenario
async def test_what_the_host_reports_is_the_fleet() -> None:
    """The hello is adopted whole, then each change is followed; replicas of others are passed over."""
    async with rig() as (host, runtime, fleet):
        assert not runtime.connected
        await host.connected(HELLO | {"replicas": [STATE, STATE | {"id": "foreign", "identity": None}]})
        await until(lambda: runtime.connected)
        assert fleet.snapshot() == {"r1": REPLICA}
        host.say({"type": "replica", "replica": STATE | {"phase": "FAILED", "address": None, "message": "why"}})
        host.say({"type": "news", "of": "a later version"})
        host.say({"type": "error", "message": "no"})
        await until(lambda: fleet.get("r1") != REPLICA)
        failed = fleet.get("r1")
        assert failed is not None
        assert (failed.phase, failed.address, failed.message) == (Phase.FAILED, None, "why")
        host.say({"type": "gone", "id": "r1"})
        await until(lambda: len(fleet) == 0)


@scenario
async def test_calls_become_messages() -> None:
    """A start carries all of the spec, a stop its grace, and logs are answered."""
    async with rig() as (host, runtime, _):
        await host.connected(HELLO)
        await until(lambda: runtime.connected)
        await runtime.start(SPEC)
        assert await host.hear() == {
            "type": "start",
            "spec": {
                "id": "r1",
                "title": "multi/current",
                "artifact_uri": "/m",
                "entity_name": "a",
                "entity_version": "1",
                "environment_vars": {"A": "1"},
                "workload_size": "",
                "asleep": False,
                "identity": {"endpoint_id": "e", "entity": "current", "generation": 2},
            },
        }
        await runtime.stop("r1", 2.5)
        assert await host.hear() == {"type": "stop", "id": "r1", "grace": 2.5}
        first, second = asyncio.create_task(runtime.logs("r1", 5)), asyncio.create_task(runtime.logs("r2", 6))
        requests = [await host.hear(), await host.hear()]
        for request in reversed(requests):
            host.say({"type": "logs", "request": request["request"], "text": f"of {request['id']}"})
        assert (await first, await second) == ("of r1", "of r2")


@scenario
async def test_a_broken_connection_is_made_again() -> None:
    """Out of reach: the fleet stays, calls are dropped, waiting for logs ends; back: the fleet is what is reported."""
    async with rig() as (host, runtime, fleet):
        await host.connected(HELLO | {"replicas": [STATE]})
        await until(lambda: runtime.connected)
        waiting = asyncio.create_task(runtime.logs("r1", 1))
        await host.hear()
        host.hang_up()
        with pytest.raises(OutOfReachError):
            await waiting
        assert not runtime.connected
        assert fleet.snapshot() == {"r1": REPLICA}
        await runtime.start(SPEC)
        await host.connected(HELLO | {"host_id": "another"})
        await until(lambda: runtime.connected)
        assert fleet.snapshot() == {}


@scenario
async def test_something_else_at_the_address_is_no_host() -> None:
    """Nonsense, another version or an immediate end: not connected, and tried again until it is a host."""
    async with rig() as (host, runtime, fleet):
        for greeting in (b"HTTP/1.1 400 Bad Request\r\n", b"[]\n", HELLO | {"protocol": 99}, {"type": "other"}):
            await host.connected(greeting)
            assert not runtime.connected
        await host.connected(b"")
        host.hang_up()
        await host.connected(HELLO | {"replicas": [STATE]})
        await until(lambda: runtime.connected)
        assert fleet.snapshot() == {"r1": REPLICA}


@scenario
async def test_a_host_that_says_nothing_is_out_of_reach() -> None:
    """It reports every few seconds; one that does not is asked again, on another connection, until it does."""
    async with rig(silence=0.2) as (host, runtime, fleet):
        running = [STATE]

        async def greet() -> None:
            while True:  # any connection may be too old when this machine gets round to it
                await host.connected({**HELLO, "replicas": running})

        greeting = asyncio.create_task(greet())
        await until(lambda: len(fleet) == 1)
        await until(lambda: not runtime.connected)
        assert fleet.snapshot() == {"r1": REPLICA}
        running.clear()
        await until(lambda: len(fleet) == 0)
        greeting.cancel()


@scenario
async def test_half_a_character_of_a_models_words_is_left_out() -> None:
    """JSON lets it through, UTF-8 does not: neither the store nor an answer could have it."""
    async with rig() as (host, runtime, fleet):
        await host.connected(HELLO | {"replicas": [{**STATE, "phase": "FAILED", "message": "no caf\udce9.csv"}]})
        await until(lambda: runtime.connected)
        failed = fleet.get("r1")
        assert failed
        assert failed.message == "no caf?.csv"
        asked = asyncio.create_task(runtime.logs("r1", 5))
        host.say({"type": "logs", "request": (await host.hear())["request"], "text": "read caf\udce9.csv"})
        assert await asked == "read caf?.csv"


@scenario
async def test_nobody_waits_for_a_host_that_does_not_listen() -> None:
    """It takes no command, and would take none for ever: whoever commands goes on, and another connection is tried."""
    async with rig(silence=0.5) as (host, runtime, _):
        await host.connected(HELLO)
        await until(lambda: runtime.connected)
        large = replace(SPEC, environment_vars=(("A", "x" * 1_000_000),))
        for _ in range(20):
            await runtime.start(large)  # far more than the socket takes
        await host.connected(HELLO | {"host_id": "another"})
