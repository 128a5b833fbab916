"""What happens to a Wye under load, by chance, but the same each time; and how long that may take it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.chaos.client import ask
from benchmarks.chaos.found import Event, Failure, Found
from benchmarks.chaos.wire import Wire
from benchmarks.models import LINEAR_VERSIONS
from controlplane.rollout.restart import STEADY
from controlplane.rollout.routing import HOLDING_FAILURES
from tests.e2e.wye import Wye, alive, config, until

#: Clients of each endpoint.
CONNECTIONS = 4
#: Seconds within which an update has to be done, and what was killed has to be back.
PATIENCE = 90.0
#: Seconds after its predecessor was killed in which a replica may not yet have taken over what waits in the socket.
SUCCESSION = 5.0
#: Seconds between two happenings, at least and at most.
GAPS = (0.5, 2.0)


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

    async def run(self, seconds: float, least: int = 0) -> Found:
        """Make the endpoints, and then trouble for so long, and for `least` happenings."""
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
            while time.monotonic() - self._began < seconds or len(self.found.events) < least:
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
            until(lambda: _has_let_go(process), PATIENCE, "the kernel ends it")
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
        def answered(began: float, ended: float, words: str) -> None:
            if words:
                failure = Failure(name, began - self._began, ended - self._began, " ".join(words.split()))
                self.found.failures.append(failure)
                self._say(f"           FAILED {failure.line(self.found.events)}")
            else:
                self.found.answered[name] += 1
                self.found.seconds.append(ended - began)

        await ask(self._wye, name, self._body, stop, answered)


def _has_let_go(process: psutil.Process) -> bool:
    """True when no thread of the process is left that could hold its connections open; whether it was reaped does not matter."""
    if not alive(process):
        with contextlib.suppress(OSError):
            return len(os.listdir(f"/proc/{process.pid}/task")) <= 1
        return True
    return False


async def chaos(
    folder: Path,
    registry: str,
    body: bytes,
    *,
    seed: int,
    seconds: float,
    say: Callable[[str], None],
    gaps: tuple[float, float] = GAPS,
    least: int = 0,
) -> Found:
    """Start a Wye in `folder`, make trouble for so long (and `least` happenings), stop it; what was found."""
    state = folder / "s"
    front = folder / "wire.sock"
    wire = Wire(front, state / "run" / "xds.sock")
    async with wire.running():
        wye = await asyncio.to_thread(Wye, state, registry=registry, WYE_CONTROL_PLANES=f"unix:{front}")
        try:
            return await Chaos(wye, wire, seed, body, say, gaps).run(seconds, least)
        finally:
            await asyncio.to_thread(wye.stop)
