"""The worker host: owns the fork server and the replicas, and does what control planes tell it. See `protocol.md`.

Outlives the control plane: connections come and go, replicas stay. Ends on SIGTERM, having ended its replicas; on a second
SIGTERM it does not wait for what they have in hand.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model_worker import orphanage, protocol
from model_worker.admission import Queue
from model_worker.allowance import SIZES, Allowance, Processors, allowances, by_size
from model_worker.artifacts import Artifacts
from model_worker.environments import Environments, Mode
from model_worker.fork_servers import ForkServers
from model_worker.hosted import HostedReplica, Surroundings
from model_worker.keeping import Keeping
from model_worker.listeners import ListenerError, Listeners, TcpListeners, UnixListeners, answers
from model_worker.logs import Logs
from model_worker.measured import Measured
from model_worker.orphanage import Orphan, Orphanage, Record
from model_worker.protocol import Acting, Command, ProtocolError, Sleep, Spec, Start, State, Stop
from model_worker.pulse import Patience
from model_worker.task import Limits
from model_worker.templates import Templates
from model_worker.variables import base_variables, fork_server_variables
from model_worker.watchdog import watchdog

_logger = logging.getLogger(__name__)

#: Seconds between two looks at replicas: whether they are alive, how much memory they use, how long their logs are.
_LOOK_INTERVAL = 0.25

#: Least seconds between a change of the replicas and the writing of it to where a successor of this host finds it.
_RECORD_PAUSE = 0.02

#: Seconds between two looks that are a sign that the host itself could not run.
_OUT_OF_BREATH = 2.0

#: … and their share of the machine's memory, which takes the kernel a while.
_LOOKS_TO_MEASURE = 20

#: The files of replicas that are gone are looked at more rarely.
_LOOKS_TO_TIDY = 40

#: Seconds between two looks for environments that nobody uses.
_TIDY_INTERVAL = 3600.0

_NO_LIMIT = (0,) * len(SIZES)

#: A peer that reads this little of what it is told is gone in all but name.
_MAX_UNREAD = 64 * 1024 * 1024

#: `<first digits of the host id>-<number>`, so that no socket's path is ever another replica's.
_LONGEST_NAME = len("01234567-99999999")


@dataclass(frozen=True, slots=True)
class Options:
    """How a host runs."""

    #: `unix:/path` or `host:port`, where control planes connect.
    listen: str
    socket_dir: Path
    log_dir: Path
    #: Where environments are that were built for models that need another than the host's own …
    environments_dir: Path
    #: … and copies of models that are not on this machine …
    artifacts_dir: Path
    #: … of which so many bytes are kept besides those in use.
    artifacts_bytes: int = 20 * 1024**3
    environments: Mode = Mode.AUTO
    #: … of which so many stay imported though all their replicas sleep …
    warm_environments: int = 4
    #: … and which are removed when no replica has been in them for so many seconds.
    environments_age: float = 30 * 86400.0
    #: Models of at least so many bytes are loaded once and shared by their replicas, where that is safe; 0: none.
    share_bytes: int = 0
    #: Empty: replicas listen on Unix sockets in `socket_dir`. Else on ports of this interface …
    replica_host: str = ""
    #: … which others reach by this name.
    advertise: str = ""
    #: Seconds that replicas get to finish when the host is told to end.
    stop_grace: float = 30.0
    #: What a replica may take, by size of workload.
    allowances: Mapping[str, Allowance] = field(default_factory=lambda: allowances(_NO_LIMIT, _NO_LIMIT))
    nice: int = 0
    #: Where replicas send their spans; "": nowhere.
    collector: str = ""
    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)
    #: Seconds that the host itself may do nothing before it is taken for hung.
    watchdog: float = 15.0


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
        self._peers: set[asyncio.StreamWriter] = set()
        self._measured = Measured()
        self._record = Record(options.log_dir / "replicas.json")
        self._writing: asyncio.TimerHandle | None = None
        self._record_pause = _RECORD_PAUSE
        orphans = orphanage.address(options.socket_dir, options.log_dir)
        self._orphanage = Orphanage(orphans, self._adopt)
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
        keeper = orphanage.address(options.socket_dir, options.log_dir, "keeper")
        self._keeping = Keeping(keeper, options.limits.orphan_grace, options.log_dir)
        self._listeners = listeners
        self._around = Surroundings(
            artifacts=self._artifacts,
            environments=self._environments,
            forks=self._forks,
            templates=self._templates,
            listeners=listeners,
            keeping=self._keeping,
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
            orphanage=str(orphans),
        )

    async def run(self, end: asyncio.Event) -> None:
        """Serve until `end` is set, then end every replica, for as long as they may take, and return."""
        background = [asyncio.create_task(watchdog(self._options.watchdog), name="watchdog")]
        await self._take_over()
        background += [
            asyncio.create_task(self._keeping.run(), name="keeper of sockets"),
            asyncio.create_task(self._forks.run(), name="fork server"),
            asyncio.create_task(self._look(), name="look at replicas"),
            asyncio.create_task(self._tidy_environments(), name="unused environments"),
        ]
        server = await self._listen()
        try:
            ended = asyncio.create_task(end.wait(), name="end")
            await asyncio.wait([ended, *background], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            server.close()
            await self._end_replicas()
        finally:
            await self._orphanage.close()
            if self._writing is not None:
                self._writing.cancel()
            self._record.forget()
            await asyncio.gather(self._artifacts.close(), self._environments.close(), self._templates.close())
            for task in background:
                task.cancel()
            outcomes = await asyncio.gather(*background, return_exceptions=True)
            for peer in self._peers:
                peer.close()
            self._forget_address()
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
        lost = await self._orphanage.open(self._record.read())
        kept = await self._keeping.take()
        for left in lost:
            if left.spec.id in self._replicas:
                continue
            replica = self._new(left.spec, left.name)
            try:
                replica.inherit(left, kept.pop(left.name, None))
            except ListenerError as error:
                _logger.warning("replica %s: %s", left.spec.id, error)
                del self._replicas[left.spec.id]
        names = {replica.name for replica in self._replicas.values()}
        for name, listener in kept.items():
            listener.close()
            if name not in names:
                self._keeping.drop(name)
        self._listeners.sweep(names)
        self._tidy_work()
        if self._replicas:
            alive = len(self._lives)
            _logger.info("took over %d replicas, of which %d are alive", len(self._replicas), alive)

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
        """Take over a living replica, unless there is another in its place."""
        if orphan.spec.id in self._replicas:
            return False
        replica = self._new(orphan.spec, orphan.name)
        replica.adopt(orphan)
        self._lives[orphan.spec.id] = asyncio.create_task(
            self._live(replica, replica.attend_adopted(orphan)), name=f"replica {orphan.spec.id}"
        )
        return True

    def _new(self, spec: Spec, name: str) -> HostedReplica:
        replica = self._replicas[spec.id] = HostedReplica(spec, name, self._around, self._publish)
        return replica

    def _write_record(self) -> None:
        """Soon after each change, and not so often that it would be noticed."""
        self._writing = None
        began = time.monotonic()
        try:
            self._record.write((each.name, each.state, each.born) for each in self._replicas.values())
        except OSError as error:
            _logger.warning("a successor of this host would not know its replicas: %s", error)
        self._record_pause = max(_RECORD_PAUSE, 20 * (time.monotonic() - began))

    # Replicas

    def obey(self, command: Command, peer: asyncio.StreamWriter) -> None:
        """Do what one line of a peer says, unless another that acts by now has a greater epoch."""
        if isinstance(command, Acting | Start | Stop | Sleep):
            if command.epoch < self._epoch:
                peer.write(protocol.line({"type": "acting", "epoch": self._epoch}))
                return
            if command.epoch > self._epoch:
                self._epoch = command.epoch
                self._tell({"type": "acting", "epoch": self._epoch})
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
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(self._record_pause, self._write_record)
        self._tell({"type": "gone", "id": replica.state.spec.id})

    async def _end_replicas(self) -> None:
        lives = list(self._lives.values())
        self.stop_all(self._options.stop_grace)
        if lives:
            await asyncio.wait(lives)

    def stop_all(self, grace: float) -> None:
        """End every replica within `grace` seconds."""
        for replica_id in list(self._replicas):
            self._stop(replica_id, grace)

    # Peers

    async def _listen(self) -> asyncio.Server:
        listen = self._options.listen
        if listen.startswith("unix:"):
            path = listen.removeprefix("unix:")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            server = await asyncio.start_unix_server(self._serve_peer, path, limit=protocol.MAX_LINE)
            os.chmod(path, 0o600)
        else:
            host, _, port = listen.rpartition(":")
            server = await asyncio.start_server(self._serve_peer, host, int(port), limit=protocol.MAX_LINE)
        _logger.info("worker host %s listens on %s", self._id, listen)
        return server

    def _forget_address(self) -> None:
        if self._options.listen.startswith("unix:"):
            Path(self._options.listen.removeprefix("unix:")).unlink(missing_ok=True)

    async def _serve_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(protocol.line(self._hello()) + protocol.line(self._measured.to_json()))
        self._peers.add(writer)
        try:
            while line := await reader.readline():
                try:
                    self.obey(protocol.parse_command(line), writer)
                except ProtocolError as error:
                    _logger.warning("%s", error)
                    writer.write(protocol.line({"type": "error", "message": str(error)}))
        except (ConnectionError, ValueError):
            pass  # it broke off, or sent a line without end; replicas do not mind
        finally:
            self._peers.discard(writer)
            writer.close()

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
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(self._record_pause, self._write_record)
        self._tell({"type": "replica", "replica": state.to_json()})

    def _tell(self, message: Mapping[str, object]) -> None:
        line = protocol.line(message)
        for peer in self._peers:
            peer.write(line)
            if peer.transport.get_write_buffer_size() > _MAX_UNREAD:
                peer.transport.abort()

    async def _look(self) -> None:
        looks, full = 0, False
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
                await asyncio.to_thread(self._measured.look, self._pids())
                self._tell(self._measured.to_json())
            try:
                for logs in self._logs.values():
                    logs.cut(self._replicas)
                    if looks % _LOOKS_TO_TIDY == 1:
                        logs.tidy(self._replicas)
                full = False
            except OSError as error:  # a full disk, most likely; replicas serve on
                if not full:
                    _logger.warning("log files cannot be kept small: %s", error)
                full = True

    async def _tidy_environments(self) -> None:
        # Not at once: control planes that will name their replicas may be starting too.
        while True:
            await asyncio.sleep(max(1.0, min(_TIDY_INTERVAL, self._options.environments_age / 4)))
            uris = {replica.state.spec.artifact_uri for replica in self._replicas.values()}
            try:
                for key in await self._environments.tidy(uris, self._options.environments_age):
                    _logger.info("environment %s was not used for long: it is removed", key)
            except OSError as error:
                _logger.warning("unused environments cannot be removed: %s", error)


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


def parse(arguments: list[str] | None) -> Options:
    """The options of a command line."""
    defaults = Limits()
    parser = argparse.ArgumentParser(
        prog="python -m model_worker.host", description="Run MLflow models for Wye's control plane."
    )
    parser.add_argument("--listen", required=True, help="where control planes connect: unix:/path or host:port")
    parser.add_argument("--socket-dir", type=Path, required=True, help="where replicas' Unix sockets are made")
    parser.add_argument("--log-dir", type=Path, required=True, help="where replicas' output is kept")
    parser.add_argument(
        "--environments-dir", type=Path, help="where environments are built; beside --log-dir if not told"
    )
    parser.add_argument("--artifacts-dir", type=Path, help="where remote models are kept; beside --log-dir if not told")
    parser.add_argument("--artifacts-megabytes", type=int, default=20480, help="how much of them is kept if unused")
    parser.add_argument("--environments", type=Mode, choices=list(Mode), default=Mode.AUTO, help="who gets one")
    parser.add_argument("--warm-environments", type=int, default=4, help="how many stay imported for sleeping replicas")
    parser.add_argument("--environments-days", type=float, default=30.0, help="days that they stay if nobody uses them")
    parser.add_argument("--share-megabytes", type=int, default=0, help="size from which models are shared; 0: none is")
    parser.add_argument("--replica-host", default="", help="let replicas listen on ports of this address instead")
    parser.add_argument("--advertise", default="", help="the address by which others reach --replica-host")
    parser.add_argument("--stop-grace", type=float, default=30.0, help="seconds replicas get when the host ends")
    parser.add_argument(
        "--orphan-grace",
        type=float,
        default=defaults.orphan_grace,
        help="seconds replicas go on serving when the host was killed",
    )
    parser.add_argument("--max-body", type=int, default=defaults.max_body, help="bytes of one request")
    sizes = ", ".join(SIZES)
    parser.add_argument(
        "--memory", type=by_size, default=_NO_LIMIT, help=f"MB that a replica may use: {sizes}; 0 is all"
    )
    parser.add_argument("--cpus", type=by_size, default=_NO_LIMIT, help=f"processors likewise: {sizes}; 0 is all")
    parser.add_argument("--nice", type=int, default=0, help="added to the niceness of replicas")
    parser.add_argument("--collector", default="", help="URL of an OpenTelemetry collector for the replicas' spans")
    parser.add_argument("--threads", type=int, default=defaults.threads, help="requests in one model at once")
    queue = defaults.queue
    parser.add_argument("--queue", type=int, default=queue.requests, help="requests that a replica takes in any case")
    parser.add_argument(
        "--queue-seconds", type=float, default=queue.seconds, help="wait up to which it takes more of them"
    )
    parser.add_argument("--request-timeout", type=float, default=queue.timeout, help="seconds that one may take")
    patience = Patience()
    parser.add_argument(
        "--hang-after", type=float, default=patience.silent, help="seconds of silence that mean that a replica is dead"
    )
    parser.add_argument(
        "--watchdog", type=float, default=15.0, help="seconds that the host may be at one thing before it ends itself"
    )
    parser.add_argument("--load-timeout", type=float, default=patience.loading, help="seconds that loading may take")
    given = parser.parse_args(arguments)
    return Options(
        listen=given.listen,
        socket_dir=given.socket_dir,
        log_dir=given.log_dir,
        environments_dir=given.environments_dir or given.log_dir.parent / "environments",
        artifacts_dir=given.artifacts_dir or given.log_dir.parent / "artifacts-cache",
        artifacts_bytes=given.artifacts_megabytes * 1024**2,
        environments=given.environments,
        warm_environments=max(0, given.warm_environments),
        environments_age=given.environments_days * 86400,
        share_bytes=given.share_megabytes * 1024**2,
        replica_host=given.replica_host,
        advertise=given.advertise,
        stop_grace=given.stop_grace,
        allowances=allowances(given.memory, given.cpus),
        nice=given.nice,
        collector=given.collector,
        limits=Limits(
            orphan_grace=given.orphan_grace,
            max_body=given.max_body,
            threads=given.threads,
            queue=Queue(given.queue, given.queue_seconds, given.request_timeout),
        ),
        patience=Patience(given.hang_after, given.request_timeout, given.load_timeout),
        watchdog=given.watchdog,
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(main(parse(None), dict(os.environ)))
    except (StartError, ListenerError, OSError) as problem:
        sys.exit(f"worker host: {problem}")
