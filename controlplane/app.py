"""The control plane put together: the only file that knows all classes. `python -m controlplane` runs it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from controlplane import keys
from controlplane.api.app import create_app
from controlplane.api.deps import Auth, Deps
from controlplane.api.forward import PassedOn
from controlplane.api.server import Application
from controlplane.api.server import serve as serve_api
from controlplane.clock import SystemClock
from controlplane.discovery import load_reports
from controlplane.discovery.hub import Hub
from controlplane.discovery.relay import Relay
from controlplane.discovery.server import serve as serve_xds
from controlplane.domain import MONITORS, Address, Endpoint, Problem, ProblemCode, ProblemError, Replica, Verdict
from controlplane.domain.load import LoadReport
from controlplane.domain.measurement import FleetView, LogKind
from controlplane.files import open_many, write_private
from controlplane.leadership import Leadership, note_envoys, publish_control_planes
from controlplane.load_history import LoadHistory
from controlplane.measurements import Envoys, FleetMeasurements, Measurements
from controlplane.opening import opened
from controlplane.registry import Registry
from controlplane.rollout.autoscale import UNITS_PER_REPLICA, ScaleOptions
from controlplane.rollout.duty import Duty
from controlplane.rollout.printed import LastWords
from controlplane.rollout.revocation import Revocations
from controlplane.rollout.secret_values import WithSecrets
from controlplane.rollout.state import Options
from controlplane.rollout.supervisor import Supervisor
from controlplane.runtimes import OutOfReachError
from controlplane.runtimes.process import ProcessRuntime
from controlplane.sampling import Sampler
from controlplane.settings import OFF, Settings
from controlplane.store import (
    DeposedError,
    Endpoints,
    Lease,
    Peer,
    Secrets,
    Store,
    StoreUnavailableError,
    Tokens,
    insist,
    resolve_doubts,
)
from controlplane.translate import names
from controlplane.translate.gateway import Gateway
from controlplane.ui import PageDeps, create_page, mounted
from controlplane.ui.deps import SignIn
from controlplane.watch import WatchedMap

_log = logging.getLogger(__name__)

#: Seconds that a call of the API waits for what other programs have to say.
PATIENCE = 5.0


async def run(settings: Settings) -> None:
    """Run the control plane until SIGTERM or SIGINT; raises when it cannot start, or when a part of it ends.

    Raises DeposedError, in a group, when another control plane on the same database has taken over.
    """
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    store = await opened(settings, stopping)
    if store is not None:
        await _ControlPlane(settings, store).run(stopping)


class _ControlPlane:
    """The parts, and what passes between them and the API's threads."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._duty = _duty(settings, store)
        self._leadership = Leadership(self._duty)
        self._clock = SystemClock()
        self._endpoints = Endpoints(store, WatchedMap[str, Endpoint]())
        self._fleet = WatchedMap[str, Replica]()
        self._hub = Hub(self._clock, lease=settings.envoy_lease)
        self._runtime = ProcessRuntime(Address.parse(settings.worker_host_address), self._fleet)
        self._runtime.outdone = self._duty.outdone
        self._registry = Registry(settings.mlflow_uri)
        self._envoys = Envoys([Address.parse(each) for each in settings.envoy_admin_address.split(",")], self._clock)
        self._keys = None if settings.no_auth else keys.load_or_make(Path(settings.keys_dir))
        self._tokens = Tokens(store)
        self._secrets = Secrets(store, keys.secrets_key(Path(settings.keys_dir)))
        self._revocations = Revocations(self._tokens, self._hub, self._clock)
        self._supervisor = Supervisor(
            endpoints=self._endpoints,
            fleet=self._fleet,
            hub=self._hub,
            runtime=WithSecrets(self._runtime, self._secrets, self._fleet),
            gateway=gateway(settings),
            clock=self._clock,
            failing=LastWords(self._runtime, store).keep,
            options=Options(drain=settings.drain, grace=settings.grace, deploy_timeout=settings.deploy_timeout),
            scaling=ScaleOptions(
                settings.scale_down_after, settings.scale_to_zero_after, settings.replicas_per_processor
            ),
        )
        self._history = LoadHistory()

    async def run(self, stopping: asyncio.Event) -> None:
        """Answer Envoys and calls, stand by, act when it is time, until `stopping`."""
        self._registry.warm()
        calls = PassedOn(self._calls(), self._leadership.for_calls)
        api = serve_api(calls, Address.parse(self._settings.api_address), self._settings.api_threads)
        try:
            xds = await serve_xds(
                self._hub,
                Address.parse(self._settings.xds_address),
                [load_reports.handler(self._load_reported)],
                lambda handlers: [Relay(handlers, self._leadership.for_streams, self._leadership.moved)],
            )
            _log.info("serving Envoys on %s", xds.address)
            parts = {"runtime": self._runtime.run(), "acting": self._act(), "duty": _end_when_deposed(self._duty)}
            try:
                await _until(stopping, parts)
            finally:
                await xds.stop()
        finally:
            await asyncio.to_thread(api.close)
            calls.close()
            await asyncio.to_thread(self._duty.close)
            await asyncio.to_thread(self._registry.close)
            self._envoys.close()
            self._store.close()

    async def _act(self) -> None:
        """Carry out what is stored, once the duty is ours."""
        standing = await self._duty.until(lambda standing: standing.here)
        await self._runtime.lead(standing.epoch)
        await insist(self._endpoints.load)
        await insist(self._note_tokens)
        self._leadership.calls_may_come()
        _keep_for_good()
        lease = self._duty.lease
        if lease:
            self._hub.expect(await insist(lease.known_envoys))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(resolve_doubts(self._endpoints), name="doubts")
            tasks.create_task(self._supervisor.run(), name="supervisor")
            sampler = Sampler(self._history, self._endpoints, self._supervisor.replicas_of, self._clock)
            tasks.create_task(sampler.run(), name="sampler")
            # Not before all that is stored is published: a part of it would make Envoys drop the rest.
            await self._supervisor.wait_published()
            _keep_for_good()
            await self._revocations.publish()
            self._leadership.streams_may_come()
            tasks.create_task(publish_control_planes(self._duty, self._hub), name="control planes")
            if lease:
                tasks.create_task(note_envoys(lease, self._hub), name="known Envoys")

    def _note_tokens(self) -> None:
        """See that the tokens that nobody asked for can be listed and revoked as others can."""
        if self._keys is None:
            return
        self._tokens.add(self._keys.admin)
        if self._settings.metrics_token_file:
            file = Path(self._settings.metrics_token_file)
            self._tokens.add(keys.kept_token(file, self._keys.signer, keys.MONITOR, (MONITORS,)))

    def _load_reported(self, node_id: str, reports: Sequence[LoadReport]) -> None:
        """What is heard is for the autoscaler and for the Serving page."""
        self._supervisor.load_reported(node_id, reports)
        self._history.heard(node_id, reports, self._clock.now_ms())

    # For the API's threads

    def _calls(self) -> Application:
        """The API and the Serving page."""
        traffic = FleetMeasurements(self._envoys, self._clock)
        app = create_app(
            Deps(
                store=self._store,
                endpoints=self._endpoints,
                registry=self._registry,
                clock=self._clock,
                replicas_of=self._supervisor.replicas_of,
                logs=self._logs,
                measurements=Measurements(
                    self._envoys, self._clock, units=lambda replicas: replicas * UNITS_PER_REPLICA
                ).of,
                fleet=lambda: FleetView(
                    traffic.read(), tuple(self._fleet.snapshot().values()), self._hub.envoys(), self._hub.ack_times()
                ),
                status=self._status,
                auth=self._auth(),
                secrets=self._secrets,
                undelivered=self._undelivered,
                secret_changed=self._secret_changed,
            )
        )
        made = self._keys
        page = PageDeps(
            api=app,
            endpoints=self._endpoints,
            clock=self._clock,
            history=self._history,
            form_key=keys.form_key(Path(self._settings.keys_dir)),
            replicas_of=self._supervisor.replicas_of,
            published=self._supervisor.published,
            sign_in=SignIn(made.signer, self._tokens, names.session_cookie(made.jwks)) if made else None,
        )
        return mounted(app, create_page(page))

    def _logs(self, replica_id: str, lines: int, kind: LogKind) -> str:
        """What a replica has printed, or how its environment was built."""
        runtime = self._runtime
        asked = (runtime.logs if kind is LogKind.OUTPUT else runtime.build_logs)(replica_id, lines)
        try:
            return asyncio.run_coroutine_threadsafe(asked, self._loop).result(PATIENCE)
        except (OutOfReachError, TimeoutError) as error:
            message = f"The worker host, which has the logs, does not answer: {error or 'it is silent'}."
            raise ProblemError(Problem("", ProblemCode.TEMPORARILY_UNAVAILABLE, message)) from error

    def _status(self) -> Mapping[str, object]:
        standing = self._duty.standing
        acting = standing.acting.name if standing.acting else ""
        return {
            "version": version("wye"),
            "envoys": [asdict(envoy) for envoy in self._hub.envoys()],
            "worker_host": {"connected": self._runtime.connected},
            "endpoints": len(self._endpoints.cell),
            "replicas": [_replica_status(replica) for replica in self._fleet.snapshot().values()],
            "control_planes": [{"name": each.name, "acts": each.name == acting} for each in standing.peers],
            "epoch": standing.epoch,
        }

    def _waited_for(self, applied: Coroutine[None, None, Verdict]) -> str:
        """Who has not acknowledged it when the patience is over, "" when all have."""
        return "; ".join(asyncio.run_coroutine_threadsafe(applied, self._loop).result().waiting)

    def _undelivered(self, endpoint: Endpoint) -> str:
        return self._waited_for(self._supervisor.wait_delivered(endpoint, PATIENCE))

    def _secret_changed(self, scope: str, key: str) -> None:
        asyncio.run_coroutine_threadsafe(self._supervisor.secret_changed((scope, key)), self._loop)

    def _auth(self) -> Auth | None:
        if self._keys is None:
            return None
        return Auth(
            signer=self._keys.signer,
            tokens=self._tokens,
            admin=self._keys.admin,
            announce=lambda: self._waited_for(self._revocations.announce(PATIENCE)),
        )


async def _until(stopping: asyncio.Event, parts: Mapping[str, Coroutine[None, None, None]]) -> None:
    """Run all parts until it is time to stop; raises when one of them ends before."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(part, name=name) for name, part in parts.items()]
        await stopping.wait()
        for part in running:
            part.cancel()


def _duty(settings: Settings, store: Store) -> Duty:
    """What decides whether this control plane acts: the lease, on a database that others can be on too."""
    me = Peer(
        settings.name or f"{socket.gethostname()[:50]}-{os.getpid()}",
        settings.xds_advertise,
        str(_api_address(settings)),
        "" if settings.no_auth else keys.fingerprint(Path(settings.keys_dir)),
    )
    if not store.is_shared:
        return Duty(None, me)
    lease = Lease(store, me)
    store.fence = lease.fence
    others = [peer for peer in lease.beat().peers if peer.keys != me.keys]
    if others:
        lease.release()
        raise ValueError(
            f"The control plane {others[0].name} on the same database has other keys than this one has in "
            f"{settings.keys_dir}: give all of them the same directory, or a copy of it (WYE_KEYS_DIR)."
        )
    return Duty(lease, me)


async def _end_when_deposed(duty: Duty) -> None:
    await duty.lost()
    raise DeposedError


def _keep_for_good() -> None:
    """What exists now stays: the garbage collector need not look through it again.

    With 10,000 endpoints each of its full passes takes 0.7 s, in which nothing else happens.
    """
    gc.collect()
    gc.freeze()


def gateway(settings: Settings) -> Gateway:
    """What the settings mean for Envoy."""
    return Gateway(
        public=Address(host=settings.host, port=settings.port),
        api=(_api_address(settings),),
        request_timeout=settings.request_timeout,
        upstream_idle=min(60.0, settings.scale_to_zero_after / 2),
        max_body=settings.max_body << 20,
        jwks="" if settings.no_auth else keys.load_or_make(Path(settings.keys_dir)).jwks,
        access_log="" if settings.access_log == OFF else settings.access_log,
        otlp=settings.otlp_endpoint,
        trace_percent=settings.trace_percent,
    )


def _api_address(settings: Settings) -> Address:
    """Where Envoy reaches the API; a name is resolved here and now, because Envoy takes none where it takes lists.

    Raises ValueError.
    """
    address = Address.parse(settings.api_advertise)
    try:
        return address if address.path else replace(address, host=socket.gethostbyname(address.host))
    except OSError as error:
        raise ValueError(f"WYE_API_ADVERTISE: {address.host} cannot be resolved ({error}).") from error


def _replica_status(replica: Replica) -> dict[str, object]:
    return {
        "id": replica.id,
        "endpoint_id": replica.deployment.endpoint_id,
        "served_entity": replica.deployment.entity,
        "phase": replica.phase,
        "pid": replica.pid,
        "attempt": replica.attempt,
        "message": replica.message,
    }


def introduce(settings: Settings) -> None:
    """Where no `wye up` does it: show the admin's token when it is made, and let commands find Wye."""
    directory = Path(settings.keys_dir)
    token = ""
    if not settings.no_auth:
        first = not keys.made(directory)
        token = keys.load_or_make(directory).admin_token
        if first:
            _log.info("the admin's token, shown once and kept in %s: %s", directory, token)
    if settings.public_url:
        found_by = {"url": settings.public_url, "token": token, "mlflow_uri": settings.mlflow_uri}
        write_private(settings.state_dir / "wye.json", json.dumps(found_by, indent=2))


def main() -> None:
    """Run the control plane with the environment's settings, logging to standard error."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    open_many()
    try:
        settings = Settings.read(os.environ)
        introduce(settings)
        asyncio.run(run(settings))
    except (StoreUnavailableError, ValueError) as error:
        sys.exit(str(error))  # one line for the user, who can act on it; a stack trace would not help
    except BaseExceptionGroup as group:
        if group.subgroup(DeposedError) is None:
            raise
        sys.exit("another control plane has taken over; started again, this one stands by")
