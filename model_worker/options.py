"""How a worker host runs, and the command line that says so."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model_worker.admission import Queue
from model_worker.allowance import SIZES, Allowance, allowances, by_size
from model_worker.environments import Mode
from model_worker.pulse import Patience
from model_worker.task import Limits

_NO_LIMIT = (0,) * len(SIZES)


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
