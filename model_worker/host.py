"""The worker host: owns the fork server and the replicas, and does what control planes tell it. See `protocol.md`.

Outlives the control plane: connections come and go, replicas stay. Ends on SIGTERM, having ended its replicas; on a second
SIGTERM it does not wait for what they have in hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

from model_worker import protocol
from model_worker.allowance import Processors
from model_worker.artifacts import Artifacts
from model_worker.chore import Chore
from model_worker.descriptors import raise_limit
from model_worker.environments import Environments
from model_worker.fork_servers import ForkServers
from model_worker.hosted import HostedReplica
from model_worker.listeners import ListenerError, Listeners, TcpListeners, UnixListeners, answers
from model_worker.logs import Logs
from model_worker.measured import Measured
from model_worker.options import Options, parse
from model_worker.orphanage import Orphan
from model_worker.peers import Peers
from model_worker.protocol import Acting, Command, Sleep, Spec, Start, State, Stop
from model_worker.record import Left
from model_worker.succession import Succession
from model_worker.surroundings import Surroundings
from model_worker.templates import Templates
from model_worker.variables import base_variables, fork_server_variables
from model_worker.watchdog import watchdog

_logger = logging.getLogger(__name__)

#: Seconds between two looks at replicas: whether they are alive, how much memory they use, how long their logs are.
_LOOK_INTERVAL = 0.25

#: Seconds between two looks that are a sign that the host itself could not run.
_OUT_OF_BREATH = 2.0

#: … and their share of the machine's memory, which takes the kernel a while.
_LOOKS_TO_MEASURE = 20

#: The files of replicas that are gone are looked at more rarely.
_LOOKS_TO_TIDY = 40

#: Seconds between two looks for environments that nobody uses.
_TIDY_INTERVAL = 3600.0

#: `<first digits of the host id>-<number>`, so that no socket's path is ever another replica's.
_LONGEST_NAME = len("01234567-99999999")


class Host:
    """The replicas of one machine."""

    def __init__(self, options: Options, listeners: Listeners, variables: Mapping[str, str]) -> None:
        self._options = options
        self._id = uuid.uuid4().hex
        self._numbers = 0
        #: The greatest epoch of a control plane that acts: with it, a former one is told from its successor.
        self._epoch = 0
        self._replicas: dict[str, HostedReplica] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._peers = Peers(options.listen, self._greeting, self.obey)
        self._measured = Measured()
        self._succession = Succession(options, self._adopt)
        self._logs = {kind: Logs(options.log_dir / folder) for kind, folder in (("output", "."), ("build", "build"))}
        self._directory = options.log_dir / "work" / self._id[:8]
        self._forks = ForkServers(
            fork_server_variables(variables),
            options.patience,
            log_dir=options.log_dir,
            directory=self._directory,
            warm=options.warm_environments,
            needed=lambda: {replica.environment for replica in self._replicas.values()},
        )
        self._artifacts = Artifacts(options.artifacts_dir, options.artifacts_bytes, self._forks, variables)
        self._environments = Environments(options.environments_dir, options.environments, variables)
        self._templates = Templates(self._directory, options.share_bytes, options.patience)
        self._listeners = listeners
        self._around = Surroundings(
            artifacts=self._artifacts,
            environments=self._environments,
            forks=self._forks,
            templates=self._templates,
            listeners=listeners,
            keeping=self._succession.keeping,
            logs=self._logs["output"],
            build_logs=self._logs["build"],
            directory=self._directory,
            variables=base_variables(variables),
            limits=options.limits,
            allowances=options.allowances,
            processors=Processors(),
            nice=options.nice,
            collector=options.collector,
            patience=options.patience,
            orphanage=str(self._succession.address),
        )

    async def run(self, end: asyncio.Event) -> None:
        """Serve until `end` is set, then end every replica, for as long as they may take, and return."""
        background = [asyncio.create_task(watchdog(self._options.watchdog), name="watchdog")]
        await self._take_over()
        background += [
            asyncio.create_task(self._succession.keeping.run(), name="keeper of sockets"),
            asyncio.create_task(self._forks.run(), name="fork server"),
            asyncio.create_task(self._look(), name="look at replicas"),
            asyncio.create_task(self._tidy_environments(), name="unused environments"),
        ]
        await self._peers.open()
        _logger.info("worker host %s listens on %s", self._id, self._options.listen)
        try:
            ended = asyncio.create_task(end.wait(), name="end")
            await asyncio.wait([ended, *background], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            self._peers.accept_no_more()
            await self._end_replicas()
        finally:
            await self._succession.close()
            await asyncio.gather(self._artifacts.close(), self._environments.close(), self._templates.close())
            for task in background:
                task.cancel()
            outcomes = await asyncio.gather(*background, return_exceptions=True)
            self._peers.close()
            for directory in self._directory.parent.iterdir():
                with contextlib.suppress(OSError):
                    directory.rmdir()
        for outcome in outcomes:
            if not isinstance(outcome, asyncio.CancelledError) and isinstance(outcome, BaseException):
                raise outcome

    # What a killed host has left

    async def _take_over(self) -> None:
        """Be in the place of a host that was killed: its living replicas are ours, and the others' sockets are open again.

        Whoever connects meanwhile waits; control planes are served afterwards, and see all of it.
        """
        self._directory.mkdir(parents=True, mode=0o700)
        for left, kept in await self._succession.take():
            if left.spec.id in self._replicas or not self._inherit(left, kept):
                self._succession.refuse(left.name, kept)
        names = {replica.name for replica in self._replicas.values()}
        self._succession.only(names)
        self._listeners.sweep(names)
        self._tidy_work()
        if self._replicas:
            alive = len(self._lives)
            _logger.info("took over %d replicas, of which %d are alive", len(self._replicas), alive)

    def _inherit(self, left: Left, kept: socket.socket | None) -> bool:
        """Have a replica again that has no process; False when it cannot be had."""
        replica = self._new(left.spec, left.name)
        return self._taken(replica, lambda: replica.inherit(left, kept))

    def _tidy_work(self) -> None:
        """Remove the directories of processes that are gone."""
        kept = {replica.directory for replica in self._replicas.values()}
        for former in self._directory.parent.iterdir():
            for directory in former.iterdir() if former != self._directory else ():
                if directory not in kept:
                    shutil.rmtree(directory, ignore_errors=True)
            with contextlib.suppress(OSError):
                if former != self._directory:
                    former.rmdir()

    def _adopt(self, orphan: Orphan) -> bool:
        """Take over a living replica; False when there is another in its place, or it cannot be had."""
        if orphan.spec.id in self._replicas:
            return False
        replica = self._new(orphan.spec, orphan.name)
        if not self._taken(replica, lambda: replica.adopt(orphan)):
            return False
        self._lives[orphan.spec.id] = asyncio.create_task(
            self._live(replica, replica.attend_adopted()), name=f"replica {orphan.spec.id}"
        )
        return True

    def _taken(self, replica: HostedReplica, take: Callable[[], None]) -> bool:
        """Whether a replica of a former host could be had; if not, it is forgotten and can be started like a new one."""
        replica_id = replica.state.spec.id
        try:
            take()
        except Exception as error:  # whatever is the matter with this one, the others are taken over
            known = isinstance(error, ListenerError | OSError)
            _logger.warning("replica %s cannot be taken over: %s", replica_id, error, exc_info=not known)
            replica.close()
            del self._replicas[replica_id]
            return False
        return True

    def _new(self, spec: Spec, name: str) -> HostedReplica:
        replica = self._replicas[spec.id] = HostedReplica(spec, name, self._around, self._publish)
        return replica

    # Replicas

    def obey(self, command: Command, peer: asyncio.StreamWriter) -> None:
        """Do what one line of a peer says, unless another that acts by now has a greater epoch."""
        if isinstance(command, Acting | Start | Stop | Sleep):
            if command.epoch < self._epoch:
                peer.write(protocol.line({"type": "acting", "epoch": self._epoch}))
                return
            if command.epoch > self._epoch:
                self._epoch = command.epoch
                self._peers.tell({"type": "acting", "epoch": self._epoch})
        match command:
            case Start(spec):
                self._start(spec)
            case Stop(replica_id, grace):
                self._stop(replica_id, grace)
            case Sleep(replica_id, grace):
                replica = self._replicas.get(replica_id)
                if replica is not None:
                    replica.sleep(grace)
            case protocol.Logs(replica_id, lines, request, kind):
                text = self._logs[kind].tail(replica_id, lines)
                peer.write(protocol.line({"type": "logs", "request": request, "text": text}))

    def _start(self, spec: Spec) -> None:
        replica = self._replicas.get(spec.id)
        if replica is None:
            self._numbers += 1
            replica = self._new(spec, f"{self._id[:8]}-{self._numbers}")
        elif replica.state.phase == protocol.ASLEEP:
            replica.sleep_on(spec)
            if not spec.asleep:
                replica.rouse()
            return
        elif replica.state.phase != protocol.FAILED or spec.id in self._lives:
            return
        replica.given(spec)
        if spec.asleep:
            replica.listen()
        else:
            replica.begin()
        self._lives[spec.id] = asyncio.create_task(self._live(replica), name=f"replica {spec.id}")

    async def _live(self, replica: HostedReplica, first: Coroutine[None, None, None] | None = None) -> None:
        """From a start, or from what is `first` in its place, to an end that nobody but a control plane changes."""
        replica_id = replica.state.spec.id
        try:
            if first is not None:
                await first
            elif replica.state.phase != protocol.ASLEEP:
                await replica.attempt()
            while replica.state.phase == protocol.ASLEEP:
                await replica.roused()
                if replica.state.phase == protocol.ASLEEP:  # else it was stopped in its sleep
                    replica.begin()
                    await replica.attempt()
        finally:
            del self._lives[replica_id]
        if replica.state.phase == protocol.STOPPING:
            self._forget(replica)

    def _stop(self, replica_id: str, grace: float) -> None:
        replica = self._replicas.get(replica_id)
        if replica is None:
            return
        replica.stop(grace)
        if replica_id not in self._lives:  # there is no process to wait for
            self._forget(replica)

    def _forget(self, replica: HostedReplica) -> None:
        replica.close()
        del self._replicas[replica.state.spec.id]
        self._succession.gone(replica.name)
        self._peers.tell({"type": "gone", "id": replica.state.spec.id})

    async def _end_replicas(self) -> None:
        lives = list(self._lives.values())
        self.stop_all(self._options.stop_grace)
        if lives:
            await asyncio.wait(lives)

    def stop_all(self, grace: float) -> None:
        """End every replica within `grace` seconds."""
        for replica_id in list(self._replicas):
            self._stop(replica_id, grace)

    # What control planes hear

    def _greeting(self) -> bytes:
        return protocol.line(self._hello()) + protocol.line(self._measured.to_json())

    def _hello(self) -> dict[str, object]:
        return {
            "type": "hello",
            "protocol": protocol.VERSION,
            "host_id": self._id,
            "pid": os.getpid(),
            "replicas": [replica.state.to_json() for replica in self._replicas.values()],
        }

    def _pids(self) -> dict[str, int]:
        states = [replica.state for replica in self._replicas.values()]
        return {state.spec.id: state.pid for state in states if state.pid is not None and state.phase == protocol.READY}

    def _publish(self, state: State) -> None:
        replica = self._replicas[state.spec.id]
        self._succession.changed(replica.name, state, replica.born)
        self._peers.tell({"type": "replica", "replica": state.to_json()})

    # What it does by itself

    async def _look(self) -> None:
        looks = 0
        measuring, cutting = Chore("replicas cannot be measured"), Chore("log files cannot be kept small")
        looked = awake_since = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_INTERVAL)
            now = time.monotonic()
            if now - looked > _OUT_OF_BREATH:
                awake_since = now  # the whole machine was, or this process; nobody else is to blame for silence
            looked = now
            for replica in self._replicas.values():
                replica.look(now, awake_since)
            looks += 1
            if looks % _LOOKS_TO_MEASURE == 1:
                with measuring:
                    await asyncio.to_thread(self._measured.look, self._pids())
                    self._peers.tell(self._measured.to_json())
            with cutting:
                # Those that sleep print nothing, and there may be thousands of them.
                busy = [each for each, replica in self._replicas.items() if replica.state.phase != protocol.ASLEEP]
                for logs in self._logs.values():
                    logs.cut(busy)
                    if looks % _LOOKS_TO_TIDY == 1:
                        logs.tidy(self._replicas)

    async def _tidy_environments(self) -> None:
        removing = Chore("unused environments cannot be removed")
        # Not at once: control planes that will name their replicas may be starting too.
        while True:
            await asyncio.sleep(max(1.0, min(_TIDY_INTERVAL, self._options.environments_age / 4)))
            uris = {replica.state.spec.artifact_uri for replica in self._replicas.values()}
            with removing:
                for key in await self._environments.tidy(uris, self._options.environments_age):
                    _logger.info("environment %s was not used for long: it is removed", key)


class StartError(Exception):
    """The host cannot run as it was asked to; the text says what to change."""


def listeners_for(options: Options) -> Listeners:
    """What makes the replicas' sockets.

    Raises ListenerError, StartError.
    """
    if options.replica_host:
        return TcpListeners(options.replica_host, options.advertise)
    return UnixListeners(options.socket_dir, _LONGEST_NAME)


async def main(options: Options, variables: Mapping[str, str]) -> None:
    """Run a host until SIGTERM or SIGINT.

    Raises StartError, ListenerError, OSError when it cannot start.
    """
    raise_limit()
    if options.listen.startswith("unix:"):
        path = Path(options.listen.removeprefix("unix:"))
        if answers(path):
            raise StartError(f"another worker host listens at {path} already")
    for directory in (options.socket_dir, options.log_dir, options.log_dir / "build"):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    host = Host(options, listeners_for(options), variables)
    end = asyncio.Event()

    def told_to_end() -> None:
        if end.is_set():
            host.stop_all(0.0)
        end.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_end)
    await host.run(end)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(main(parse(None), dict(os.environ)))
    except (StartError, ListenerError, OSError) as problem:
        sys.exit(f"worker host: {problem}")
