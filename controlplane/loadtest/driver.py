"""Sends what the schedule says and counts what comes back. One thread, as fast as one core can."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import uvloop

from controlplane.loadtest import schedule
from controlplane.loadtest.alarm import Alarm
from controlplane.loadtest.http import Connection
from controlplane.loadtest.schedule import Closed, Mode
from controlplane.loadtest.tally import Tally

#: Seconds between two looks at what takes too long, and before the next try after one to connect has failed.
_LOOK, _AGAIN = 0.1, 0.1
#: Connections that are there when an open test begins; more are made as they are needed.
_AT_FIRST = 8
#: Nanoseconds between two looks at how many connections are missing.
_PATIENCE = 1_000_000


@dataclass(frozen=True, slots=True)
class Assignment:
    """What is to be done."""

    #: Wye's URL, and the requests to send there (`http.prepare`), one for each target.
    url: str
    requests: Sequence[bytes]
    mode: Mode
    seconds: float
    #: Seconds after it was due that a request counts as failed, whether it could be sent or not.
    timeout: float


@dataclass(frozen=True, slots=True)
class Ran:
    """What was done."""

    tally: Tally
    #: Seconds for which requests were sent.
    seconds: float
    #: Share of a processor that this program took.
    busy: float
    #: Requests that were under way when the user broke off.
    abandoned: int
    interrupted: bool


class CannotConnectError(Exception):
    """Nobody is there to be tested."""


def run(assignment: Assignment, watching: Callable[[Tally, float], None], every: float = 0.25) -> Ran:
    """Do it; `watching` is called with what is counted so far and the seconds gone, every so many seconds.

    Ctrl-C ends it early, with what was counted until then. Raises CannotConnectError.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(assignment, watching, every))


async def _run(assignment: Assignment, watching: Callable[[Tally, float], None], every: float) -> Ran:
    loop = asyncio.get_running_loop()
    driver = _Driver(assignment)
    # Nothing here makes cycles, and each pass of the collector would be a pause in the middle of the test.
    gc.collect()
    gc.disable()
    driving = loop.create_task(driver.drive(), name="load")

    async def watch() -> None:
        while True:
            await asyncio.sleep(every)
            watching(driver.tally, driver.elapsed)

    showing = loop.create_task(watch(), name="progress")
    try:
        return await asyncio.shield(driving)
    except asyncio.CancelledError:  # Ctrl-C
        driver.break_off()
        return await driving
    finally:
        showing.cancel()
        gc.enable()


class _Driver:
    """One test. Belongs to one event loop."""

    def __init__(self, assignment: Assignment) -> None:
        self.tally = Tally(len(assignment.requests), assignment.seconds)
        self._assignment = assignment
        self._requests = assignment.requests
        self._supply = schedule.supply(assignment.mode, assignment.seconds)
        self._timeout = int(assignment.timeout * 1e9)
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._began = 0
        self._rings = 0
        self._interrupted = False
        self._over = asyncio.Event()
        url = urlsplit(assignment.url)
        self._secure = ssl.create_default_context() if url.scheme == "https" else None
        self._where = url.hostname or "", url.port or (443 if self._secure else 80)

    @property
    def elapsed(self) -> float:
        """Seconds since the first request."""
        return self._now() / 1e9 if self._began else 0.0

    async def drive(self) -> Ran:
        """Send what is to be sent and wait for what is to come."""
        mode = self._assignment.mode
        try:
            count = mode.connections if isinstance(mode, Closed) else min(mode.connections, _AT_FIRST)
            await asyncio.gather(*(self._connect() for _ in range(count)))
        except OSError as error:
            self._abort()
            raise CannotConnectError(error.strerror or str(error)) from error
        self._alarm = Alarm(self._ring)
        looking = asyncio.create_task(self._look(), name="timeouts")
        self._began, spent = time.monotonic_ns(), time.process_time()
        try:
            self._send()
            await self._over.wait()
            took, spent = self.elapsed, time.process_time() - spent
        finally:
            looking.cancel()
            self._alarm.close()
            self._abort()
        return Ran(
            self.tally,
            seconds=min(took, self._assignment.seconds) if self._interrupted else self._assignment.seconds,
            busy=spent / took,
            abandoned=self._under_way,
            interrupted=self._interrupted,
        )

    def break_off(self) -> None:
        """Send no more and wait for nothing."""
        self._interrupted = True
        self._over.set()

    def _abort(self) -> None:
        for task in self._opening:
            task.cancel()
        for connection in self._connections:
            connection.abort()

    def _now(self) -> int:
        return time.monotonic_ns() - self._began

    # Sending

    def _send(self) -> None:
        """Send all that is due and finds a connection; make connections for the rest; set the alarm for what is due next."""
        now = self._now()
        if self._over.is_set():
            return
        while self._idle:
            due = self._supply.take(now)
            if due is None:
                break
            number = self.tally.sent
            self.tally.sent += 1
            self._under_way += 1
            target = schedule.target(number, len(self._requests))
            self._idle.pop().send(self._requests[target], target, due)
        else:
            self._open_for(self._supply.waiting(now))
        ring = self._supply.next_due()
        if ring is not None and ring != self._rings:
            # What is due and waits for a connection waits for no alarm, but those that come after it may need more of them.
            self._rings = max(ring, now + _PATIENCE)
            self._alarm.set(self._began + self._rings)
        if not self._under_way and self._supply.over(now):
            self._over.set()

    def _ring(self) -> None:
        self.tally.lateness.record(self._now() - self._rings)
        self._send()

    def _open_for(self, waiting: int) -> None:
        """Make connections for as many requests, as far as allowed."""
        room = self._assignment.mode.connections - len(self._connections)
        for _ in range(min(room, waiting) - len(self._opening)):
            task = asyncio.create_task(self._open(), name="connect")
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._assignment.timeout):
            _, connection = await loop.create_connection(lambda: Connection(self), *self._where, ssl=self._secure)
        self._connections.add(connection)
        self._idle.append(connection)

    async def _open(self) -> None:
        try:
            await self._connect()
        except OSError as error:
            # It was for a request that is due; that one has failed.
            now = self._now()
            if not self._over.is_set() and self._supply.take(now) is not None:
                self.tally.sent += 1
                self.tally.refused(now, "cannot connect", error.strerror or str(error) or "timed out")
            await asyncio.sleep(_AGAIN)
        asyncio.get_running_loop().call_soon(self._send)

    async def _look(self) -> None:
        """Give up what takes too long, whether it is under way or waits for a connection."""
        while True:
            await asyncio.sleep(_LOOK)
            now = self._now()
            late = now - self._timeout
            for connection in [each for each in self._connections if not each.idle and each.due < late]:
                connection.abort()
                self._lose(connection, "timeout", f"no answer within {self._assignment.timeout:g} s")
            if late > 0:
                while (due := self._supply.next_due()) is not None and due < late:
                    self._supply.take(now)
                    self.tally.sent += 1
                    self.tally.refused(now, "timeout", f"no connection was free for {self._assignment.timeout:g} s")
            self._send()

    # What connections tell

    def answered(self, connection: Connection) -> None:
        """An answer is there: count it, send the next request."""
        self._under_way -= 1
        now = self._now()
        status = connection.status
        if 200 <= status < 300:
            self.tally.answered(
                connection.target, connection.due, now, connection.model.decode("latin-1"), connection.timing
            )
        else:
            code, message = _words(connection.body)
            self.tally.refused(now, f"{status} {code}".strip(), message, connection.model.decode("latin-1"))
        if connection.closing:
            self._connections.discard(connection)
        else:
            self._idle.append(connection)
        self._send()

    def lost(self, connection: Connection, reason: str) -> None:
        """A connection has ended."""
        if connection.idle:
            self._connections.discard(connection)
            self._idle = [each for each in self._idle if each is not connection]
        else:
            self._lose(connection, "connection lost", reason)
        self._send()

    def _lose(self, connection: Connection, kind: str, reason: str) -> None:
        self._connections.discard(connection)
        self._under_way -= 1
        self.tally.refused(self._now(), kind, reason)


def _words(body: bytes) -> tuple[str, str]:
    """The error code and the message in an error's body, as far as there are any."""
    try:
        document = json.loads(body)
        return str(document.get("error_code", "")), str(document.get("message", ""))
    except (ValueError, AttributeError, RecursionError):
        return "", body[:200].decode("utf-8", "replace")
