"""Does anything that dies, moves or changes lose a request? Three endpoints under steady load, and a seeded schedule.

Every second or two something happens: a replica, the control plane, the worker host or Envoy's connection to the control
plane is killed, the control plane is told to restart, a version is swapped, weights or the number of replicas change. The
client never retries. A request fails with cause when it was in the process of a replica that was killed; nothing else is
an excuse.

`python -m benchmarks.chaos [--seed 1] [--minutes 5]`, or `make chaos`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.models import BODY, LINEAR_VERSIONS, registered
from benchmarks.report import Figure, Report, Table, machine, percentile
from controlplane.rollout.restart import STEADY
from controlplane.rollout.routing import HOLDING_FAILURES
from tests.e2e.wye import Wye, alive, config

#: Requests on each connection begin so many seconds after the answer to the one before.
PAUSE = 0.02
CONNECTIONS = 4
#: Seconds within which an update has to be done, and what was killed has to be back.
PATIENCE = 90.0
#: Seconds after its predecessor was killed in which a replica may not yet have taken over what waits in the socket.
SUCCESSION = 5.0
#: Seconds between two happenings, at least and at most.
GAPS = (0.5, 2.0)


@dataclass
class Event:
    """Something that was done to Wye, in seconds since the load began."""

    at: float
    kind: str
    #: To which endpoint or replica.
    which: str
    #: The endpoint whose replica was killed, "" for everything else …
    victim: str = ""
    #: … and when its process had let go of its connections: the kernel takes a moment.
    gone: float = 0.0
    #: Endpoints with a replica that was just being replaced when the worker host was killed: its socket goes with the host.
    bereft: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.which}".strip()


@dataclass
class Failure:
    """A request that was not answered with 200."""

    endpoint: str
    began: float
    ended: float
    words: str

    def excuse(self, events: list[Event]) -> Event | None:
        """The killing of a replica of its endpoint, or of the host in whose socket it waited, while it was under way."""
        return next((each for each in events if self._was_in(each)), None)

    def _was_in(self, event: Event) -> bool:
        if event.victim == self.endpoint:
            return self.began <= event.gone and self.ended >= event.at
        return self.endpoint in event.bereft and self.began <= event.at <= self.ended

    def line(self, events: list[Event]) -> str:
        """For people: when, what, and what had just happened."""
        excuse = self.excuse(events)
        before = [each for each in events if each.at <= self.ended]
        last = f"{before[-1]} {self.ended - before[-1].at:.2f} s before" if before else "before anything happened"
        cause = f"UNEXCUSED; {last}"
        if excuse:
            where = "in the process" if excuse.victim else "in the socket of a replica without a process, and its host"
            cause = f"{where} that was killed: {excuse}"
        return f"{self.began:.3f} s to {self.ended:.3f} s, {self.endpoint}: {self.words} ({cause})"


@dataclass
class Found:
    """What a run has seen."""

    events: list[Event] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    #: What was promised and not kept, besides requests: updates that failed, programs that did not come back.
    broken: list[str] = field(default_factory=list)

    @property
    def excused(self) -> list[Failure]:
        return [each for each in self.failures if each.excuse(self.events)]

    @property
    def unexcused(self) -> list[Failure]:
        return [each for each in self.failures if not each.excuse(self.events)]


class Wire:
    """Envoy's connection to the control plane, through our hands so that it can be cut."""

    def __init__(self, front: Path, back: Path) -> None:
        self._front, self._back = front, back
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, str(self._front))
        try:
            yield
        finally:
            server.close()
            self.cut()
            self._front.unlink(missing_ok=True)

    def cut(self) -> int:
        """End all connections; how many there were."""
        count = len(self._open) // 2
        for writer in self._open:
            writer.transport.abort()
        return count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind, ahead = await asyncio.open_unix_connection(str(self._back))
        except OSError:
            writer.close()
            return
        pair = {writer, ahead}
        self._open |= pair
        try:
            await asyncio.gather(_pump(reader, ahead), _pump(behind, writer))
        finally:
            self._open -= pair
            for each in pair:
                each.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


class Chaos:
    """One run against one Wye, which it may break in every way that Wye promises to survive."""

    def __init__(
        self,
        wye: Wye,
        wire: Wire,
        seed: int,
        body: bytes,
        say: Callable[[str], None],
        gaps: tuple[float, float] = GAPS,
    ) -> None:
        self._wye = wye
        self._wire = wire
        self._random = random.Random(seed)
        self._body = body
        self._say = say
        self._gaps = gaps
        self._began = time.monotonic()
        self._kills: dict[str, list[float]] = {}
        #: Whose replica each was that was killed.
        self._of: dict[str, str] = {}
        self._loop = asyncio.get_running_loop()
        #: Of each endpoint: the version behind `a`, its share, and how much concurrency it has.
        self._wanted = {name: [1, 50, 4] for name in ("plain", "split", "large")}
        self.found = Found()

    async def run(self, seconds: float) -> Found:
        """Make the endpoints, and then trouble for so long."""
        for name in self._wanted:
            await asyncio.to_thread(self._wye.create, name, self._config(name))
        stop = asyncio.Event()
        self._began = time.monotonic()
        clients = [asyncio.create_task(self._client(name, stop)) for name in self._wanted for _ in range(CONNECTIONS)]
        happenings = {
            self._kill_replica: 4,
            self._kill_control_plane: 2,
            self._restart_control_plane: 1,
            self._kill_worker_host: 1,
            self._cut_wire: 2,
            self._new_version: 4,
            self._new_weights: 4,
            self._new_size: 2,
        }
        try:
            while time.monotonic() - self._began < seconds:
                await asyncio.sleep(self._random.uniform(*self._gaps))
                (happening,) = self._random.choices(list(happenings), list(happenings.values()))
                await asyncio.to_thread(happening, self._random.choice(list(self._wanted)))
            await asyncio.to_thread(self._all_is_well)
        finally:
            stop.set()
            await asyncio.gather(*clients)
        return self.found

    # What happens

    def _kill_replica(self, name: str) -> None:
        ready = self._asked(lambda: self._wye.replicas(name))
        now = time.monotonic()
        # A replica that ends again and again is not waited for, by design; so each is killed no more often than that,
        # until it has served long enough (and ten seconds more, to be sure) for this to be forgotten.
        often = {each: self._kills.get(each, []) for each in ready}
        often = {each: kills if kills and kills[-1] > now - STEADY - 10 else [] for each, kills in often.items()}
        some = sorted(each for each in ready if len(often[each]) < HOLDING_FAILURES)
        if not some:
            return
        victim = self._random.choice(some)
        self._kills[victim] = [*often[victim], now]
        self._of[victim] = name
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(ready[victim])
            event = self._note("kill -9 of a replica", f"{victim} of {name}", name)
            process.kill()
            while not _has_let_go(process):
                time.sleep(0.001)
            event.gone = time.monotonic() - self._began

    def _kill_control_plane(self, _name: str) -> None:
        self._note("kill -9 of the control plane")
        self._end("controlplane", signal.SIGKILL)

    def _kill_worker_host(self, _name: str) -> None:
        status = self._asked(lambda: self._wye.client.get("/api/2.0/wye/status").json())
        now = time.monotonic()
        last = {each: kills[-1] for each, kills in self._kills.items() if kills}
        down = {each["id"] for each in status.get("replicas", []) if each["phase"] in {"STARTING", "FAILED"}}
        event = self._note("kill -9 of the worker host")
        event.bereft = tuple({self._of[each] for each, at in last.items() if each in down or at > now - SUCCESSION})
        self._end("worker_host", signal.SIGKILL)

    def _restart_control_plane(self, _name: str) -> None:
        self._note("SIGTERM of the control plane")
        self._end("controlplane", signal.SIGTERM)

    def _cut_wire(self, _name: str) -> None:
        self._note("cut of Envoy's connection to the control plane")
        self._loop.call_soon_threadsafe(self._wire.cut)

    def _new_version(self, name: str) -> None:
        wanted = self._wanted[name]
        wanted[0] = 1 + wanted[0] % LINEAR_VERSIONS
        self._update(name, "another version", f"{wanted[0]} for {name}")

    def _new_weights(self, name: str) -> None:
        self._wanted[name][1] = self._random.randint(1, 99)
        self._update(name, "other weights", f"for {name}")

    def _new_size(self, name: str) -> None:
        wanted = self._wanted[name]
        wanted[2] = 12 - wanted[2]  # one replica, or two
        self._update(name, "another number of replicas", f"for {name}")

    def _update(self, name: str, kind: str, which: str) -> None:
        what = self._note(kind, which)
        path = f"/api/2.0/serving-endpoints/{name}/config"

        def sent() -> httpx.Response | None:
            answer = self._wye.client.put(path, json=self._config(name))
            return answer if answer.status_code in {200, 409} else None

        self._asked(sent)
        endpoint = self._asked(lambda: self._settled(name))
        if endpoint and endpoint["state"]["config_update"] != "NOT_UPDATING":
            self.found.broken.append(f"{what}: {endpoint.get('pending_config', endpoint['state'])}")

    def _end(self, program: str, signum: int) -> None:
        pid = self._wye.pid(program)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
        self._asked(lambda: self._wye.pid(program) not in {None, pid})

    def _all_is_well(self) -> None:
        """Everything is back: as many replicas as wanted, and an update goes through."""
        for name in self._wanted:
            self._update(name, "last update", f"of {name}")
            self._asked(lambda name=name: self._wye.replicas(name))

    # Helpers

    def _config(self, name: str) -> dict[str, Any]:
        version, share, concurrency = self._wanted[name]
        document = config({"a": share, "b": 100 - share}, a=f"linear/{version}", b="other/1")
        if name == "plain":
            document = config({"a": 100}, a=f"linear/{version}")
        if name == "large":
            for entity in document["served_entities"]:
                entity |= {"min_provisioned_concurrency": concurrency, "max_provisioned_concurrency": concurrency}
        return document

    def _settled(self, name: str) -> dict[str, Any] | None:
        answer = self._wye.client.get(f"/api/2.0/serving-endpoints/{name}")
        document = answer.json() if answer.status_code == 200 else None
        return document if document and document["state"]["config_update"] != "IN_PROGRESS" else None

    def _asked(self, question: Callable[[], Any]) -> Any:
        """The first true answer; the control plane may be away in between."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError, AssertionError, FileNotFoundError, ValueError, KeyError):
                answer = question()
                if answer:
                    return answer
            time.sleep(0.05)
        self.found.broken.append(f"no answer for {PATIENCE:.0f} s after: {self.found.events[-1:]}")
        return {}

    def _note(self, kind: str, which: str = "", victim: str = "") -> Event:
        event = Event(time.monotonic() - self._began, kind, which, victim, gone=math.inf)
        self.found.events.append(event)
        self._say(f"{event.at:7.2f} s  {event}")
        return event

    async def _client(self, name: str, stop: asyncio.Event) -> None:
        where = urlsplit(self._wye.url)
        request = (
            f"POST /serving-endpoints/{name}/invocations HTTP/1.1\r\nHost: wye\r\n"
            f"Authorization: Bearer {self._wye.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(self._body)}\r\n\r\n"
        ).encode() + self._body
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not stop.is_set():
            began = time.monotonic()
            words = ""
            try:
                streams = streams or await asyncio.open_connection(where.hostname, where.port)
                words = await asyncio.wait_for(exchange(*streams, request), 60)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                words = repr(error)
                if streams:
                    streams[1].close()
                streams = None
            ended = time.monotonic()
            if words:
                failure = Failure(name, began - self._began, ended - self._began, " ".join(words.split()))
                self.found.failures.append(failure)
                self._say(f"           FAILED {failure.line(self.found.events)}")
            else:
                self.found.answered[name] += 1
                self.found.seconds.append(ended - began)
            await asyncio.sleep(PAUSE)
        if streams:
            streams[1].close()


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        return body[:300].decode(errors="replace")


def _has_let_go(process: psutil.Process) -> bool:
    """True when no thread of the process is left that could hold its connections open; whether it was reaped does not matter."""
    if not alive(process):
        with contextlib.suppress(OSError):
            return len(os.listdir(f"/proc/{process.pid}/task")) <= 1
        return True
    return False


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> str:
    """ "" when the answer is 200, else the answer."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    status = lines[0].split()[1]
    return "" if status == "200" else f"{status} {_message(body)}"


async def chaos(
    folder: Path,
    registry: str,
    body: bytes,
    *,
    seed: int,
    seconds: float,
    say: Callable[[str], None],
    gaps: tuple[float, float] = GAPS,
) -> Found:
    """Start a Wye in `folder`, make trouble for so long, stop it; what was found."""
    state = folder / "s"
    front = folder / "wire.sock"
    wire = Wire(front, state / "run" / "xds.sock")
    async with wire.running():
        wye = await asyncio.to_thread(Wye, state, registry=registry, WYE_CONTROL_PLANES=f"unix:{front}")
        try:
            return await Chaos(wye, wire, seed, body, say, gaps).run(seconds)
        finally:
            await asyncio.to_thread(wye.stop)


def report(found: Found, seed: int, seconds: float) -> Report:
    """What was found as figures and a table."""
    kinds = Counter(event.kind for event in found.events)
    in_processes = [each for each in found.excused if (why := each.excuse(found.events)) and why.victim]
    made = Report("chaos", " ".join((__doc__ or "").split("\n\n`")[0].split()))
    made.figures = [
        Figure.at_most("failed requests without an excuse", len(found.unexcused), 0, ""),
        Figure("failed requests in the process of a killed replica", len(in_processes), ""),
        Figure(
            "failed requests that waited for a replica's successor when its host was killed too",
            len(found.excused) - len(in_processes),
            "",
        ),
        Figure("answered requests", sum(found.answered.values()), ""),
        Figure.at_most("updates that failed, and programs that did not come back", len(found.broken), 0, ""),
    ]
    made.tables = [
        Table("What happened", ("What", "Times"), [[what, count] for what, count in sorted(kinds.items())]),
        Table(
            "Answers",
            ("Endpoint", "Answered", "Failed with excuse", "Failed without"),
            [
                [
                    name,
                    found.answered[name],
                    sum(each.endpoint == name for each in found.excused),
                    sum(each.endpoint == name for each in found.unexcused),
                ]
                for name in sorted(found.answered)
            ],
        ),
    ]
    if found.seconds:
        made.notes.append(
            f"Seconds to an answer: p50 {percentile(found.seconds, 50):.4f}, p99 {percentile(found.seconds, 99):.3f}, "
            f"longest {max(found.seconds):.2f}."
        )
    made.notes += [f"Seed {seed}, {seconds:.0f} s."]
    made.notes += [each.line(found.events) for each in found.failures] + found.broken
    return made


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--minutes", type=float, default=5.0)
    arguments.add_argument("--keep", action="store_true", help="keep the result in benchmarks/results")
    given = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="wc"))
    here, began = machine(), time.monotonic()
    try:
        found = asyncio.run(
            chaos(
                folder,
                registered(folder),
                BODY.encode(),
                seed=given.seed,
                seconds=given.minutes * 60,
                say=lambda text: print(text, file=sys.stderr, flush=True),
            )
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    made = report(found, given.seed, given.minutes * 60)
    made.machine = {**here, "took": f"{time.monotonic() - began:.0f} s"}
    print(made.markdown())
    if given.keep:
        made.save()
    return 1 if found.unexcused or found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
