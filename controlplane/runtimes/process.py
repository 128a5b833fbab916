"""The runtime of one machine: speaks to a worker host, which owns the processes and outlives us.

The protocol is described in `model_worker/protocol.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import Callable, Mapping
from sys import intern
from typing import Any

from controlplane.domain import Address, Deployment, Machine, Phase, Replica, ReplicaSpec
from controlplane.runtimes.base import Fleet, OutOfReachError

_logger = logging.getLogger(__name__)

#: The version of the protocol that is spoken here.
_PROTOCOL = 1

#: Seconds before the first try to connect again, doubling up to the second.
_PAUSES = (0.02, 1.0)

#: Seconds without a word after which a host, which reports its machine every 5 s, is out of reach. It may be stopped, or the
#: network may be gone without a trace.
_SILENCE = 15.0

#: Bytes of one message: a hello with every replica.
_MAX_LINE = 256 * 1024 * 1024

#: Bytes of commands after which a host that does not read them is gone in all but name.
_MAX_UNREAD = 64 * 1024 * 1024


class HostError(Exception):
    """What connects is not a worker host that we understand."""


class ProcessRuntime:
    """Keeps the fleet equal to what one worker host reports, and passes calls on to it.

    On connecting it adopts all that the host runs. While the host is out of reach the fleet stays as it was last seen and
    calls are dropped; when it comes back, as the same process or another, the fleet becomes what it then reports.
    """

    def __init__(self, address: Address, fleet: Fleet, silence: float = _SILENCE) -> None:
        self._address = address
        self._silence = silence
        self._fleet = fleet
        self._writer: asyncio.StreamWriter | None = None
        self._reachable = asyncio.Event()
        self._machine: Machine | None = None
        self._requests = itertools.count(1)
        self._awaited: dict[int, asyncio.Future[str]] = {}
        self._epoch = 0
        #: Called with the epoch of another control plane that has commanded the host, when it is greater than ours.
        self.outdone: Callable[[int], None] = lambda _: None

    async def lead(self, epoch: int) -> None:
        """Command under this epoch from now on: the host obeys nobody who has a smaller one."""
        self._epoch = epoch
        await self._say({"type": "acting"})

    async def run(self) -> None:
        """Connect, adopt, keep the fleet true, connect again, until cancelled."""
        pause = _PAUSES[0]
        complained = False
        while True:
            try:
                await self._connection()
                pause, complained = _PAUSES[0], False
            except (OSError, HostError) as error:
                if not complained:
                    _logger.warning("worker host at %s is out of reach: %s", self._address, error)
                complained = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    @property
    def connected(self) -> bool:
        """True from adoption until the connection breaks."""
        return self._writer is not None

    @property
    def machine(self) -> Machine | None:
        """What the host last said of its machine."""
        return self._machine

    async def wait_connected(self) -> None:
        """Return once what the host runs has been adopted."""
        await self._reachable.wait()

    async def start(self, spec: ReplicaSpec) -> None:
        """Ask the host to start a replica, or to start a FAILED one again on the same socket, or to wake one."""
        await self._say({"type": "start", "spec": _spec_to_json(spec)})

    async def sleep(self, replica_id: str, grace: float) -> None:
        """Ask the host to end a replica's process until somebody connects."""
        await self._say({"type": "sleep", "id": replica_id, "grace": grace})

    async def stop(self, replica_id: str, grace: float) -> None:
        """Ask the host to end a replica."""
        await self._say({"type": "stop", "id": replica_id, "grace": grace})

    async def logs(self, replica_id: str, lines: int) -> str:
        """The last lines that a replica has printed, also of one that is gone.

        Raises OutOfReachError.
        """
        return await self._logs("output", replica_id, lines)

    async def build_logs(self, replica_id: str, lines: int) -> str:
        """The last lines of how a replica's environment was chosen and built, also of one that is gone.

        Raises OutOfReachError.
        """
        return await self._logs("build", replica_id, lines)

    async def _logs(self, kind: str, replica_id: str, lines: int) -> str:
        if self._writer is None:
            raise OutOfReachError(f"the worker host at {self._address} is out of reach")
        request = next(self._requests)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._awaited[request] = answer
        try:
            await self._say({"type": "logs", "id": replica_id, "lines": lines, "request": request, "kind": kind})
            return await answer
        finally:
            self._awaited.pop(request, None)

    async def _connection(self) -> None:
        """One connection, from adoption to its end.

        Raises OSError or HostError when it does not come to an adoption.
        """
        reader, writer = await self._connect()
        try:
            await self._adopt(reader)
            self._writer = writer
            if self._epoch:
                await self._say({"type": "acting"})  # before anything else is asked of it
            self._reachable.set()
            try:
                while (message := await self._read(reader)) is not None:
                    self._heed(message)
                _logger.warning("worker host at %s closed the connection", self._address)
            except (OSError, HostError) as error:
                _logger.warning("worker host at %s is lost: %s", self._address, error)
        finally:
            self._writer = None
            self._reachable.clear()
            writer.transport.abort()  # a host that hangs would never take the rest
            for answer in self._awaited.values():
                if not answer.done():
                    answer.set_exception(OutOfReachError(f"the worker host at {self._address} went out of reach"))
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address.path:
            return await asyncio.open_unix_connection(self._address.path, limit=_MAX_LINE)
        return await asyncio.open_connection(self._address.host, self._address.port, limit=_MAX_LINE)

    async def _adopt(self, reader: asyncio.StreamReader) -> None:
        """Take over what the host has. Its greeting, which may be large, is gone when this returns."""
        hello = await self._read(reader)
        if hello is None:
            raise HostError("it closed the connection at once")
        if hello.get("type") != "hello" or hello.get("protocol") != _PROTOCOL:
            raise HostError(f"it does not speak version {_PROTOCOL} of the worker host's protocol")
        replicas = [replica for fields in hello["replicas"] if (replica := _replica_from_json(fields)) is not None]
        self._fleet.replace({replica.id: replica for replica in replicas})
        _logger.info("adopted %d replicas of worker host %s", len(replicas), hello["host_id"])

    def _heed(self, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "replica":
                replica = _replica_from_json(message["replica"])
                if replica is not None:
                    self._fleet.set(replica.id, replica)
            case "gone":
                self._fleet.delete(message["id"])
            case "machine":
                fields = ("processors", "memory", "available", "taken")
                self._machine = Machine(**{name: message[name] for name in fields})
            case "logs":
                answer = self._awaited.get(message["request"])
                if answer is not None and not answer.done():
                    answer.set_result(_text(message["text"]))
            case "acting":
                if message["epoch"] > self._epoch > 0:
                    self.outdone(message["epoch"])
            case "error":
                _logger.error("the worker host refused a message: %s", message["message"])
            case _:
                pass  # a newer host may say more

    async def _read(self, reader: asyncio.StreamReader) -> dict[str, Any] | None:
        """The next message, or None at the end of the connection.

        Raises HostError when none comes in time.
        """
        try:
            async with asyncio.timeout(self._silence):
                return await _read(reader)
        except TimeoutError:
            raise HostError(f"it has said nothing for {self._silence:.0f} s") from None

    async def _say(self, message: Mapping[str, Any]) -> None:
        writer = self._writer
        if writer is None:
            return
        if self._epoch:
            message = {**message, "epoch": self._epoch}
        # Nobody waits here for a host that hangs: all endpoints would. What is dropped is asked for again.
        writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        if writer.transport.get_write_buffer_size() > _MAX_UNREAD:
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message, or None at the end of the connection."""
    try:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            return None
        message = json.loads(line)
    except ValueError as error:
        raise HostError(f"it sent something that is not a message: {error}") from error
    if not isinstance(message, dict):
        raise HostError("it sent something that is not a message")
    return message


def _text(said: str) -> str:
    """What a model has said, without the halves of characters that JSON lets through and no UTF-8, and so no store, takes."""
    return said.encode(errors="replace").decode()


def _spec_to_json(spec: ReplicaSpec) -> dict[str, Any]:
    return {
        "id": spec.id,
        "title": spec.title,
        "artifact_uri": spec.artifact_uri,
        "entity_name": spec.entity_name,
        "entity_version": spec.entity_version,
        "environment_vars": dict(spec.environment_vars),
        "workload_size": spec.workload_size,
        "asleep": spec.asleep,
        "identity": {
            "endpoint_id": spec.deployment.endpoint_id,
            "entity": spec.deployment.entity,
            "generation": spec.deployment.generation,
        },
    }


def _replica_from_json(fields: Mapping[str, Any]) -> Replica | None:
    """The replica that a host reports; None for one that was started by something else than a control plane of ours."""
    try:
        identity, address = fields["identity"], fields["address"]
        return Replica(
            id=fields["id"],
            # Interned: the endpoint's config has the same strings.
            deployment=Deployment(intern(identity["endpoint_id"]), intern(identity["entity"]), identity["generation"]),
            phase=Phase(fields["phase"]),
            address=Address(**address) if address else None,
            pid=fields["pid"],
            message=_text(fields["message"]),
            permanent=fields["permanent"],
            attempt=fields["attempt"],
            holds_connections=fields["holds_connections"],
        )
    except (KeyError, TypeError, ValueError) as error:
        _logger.warning("a replica of the worker host is not ours: %r in %s", error, fields)
        return None
