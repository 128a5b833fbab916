"""The control plane put together: the only file that knows all classes. `python -m controlplane` runs it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version

from controlplane import keys
from controlplane.api.app import create_app
from controlplane.api.deps import Auth, Deps
from controlplane.api.server import serve as serve_api
from controlplane.clock import SystemClock
from controlplane.discovery import load_reports
from controlplane.discovery.hub import Hub
from controlplane.discovery.server import serve as serve_xds
from controlplane.domain import Address, Endpoint, Problem, ProblemCode, ProblemError, Replica, Verdict
from controlplane.domain.load import LoadReport
from controlplane.domain.measurement import FleetView, LogKind
from controlplane.load_history import LoadHistory
from controlplane.measurements import Envoys, FleetMeasurements, Measurements
from controlplane.registry import Registry
from controlplane.rollout.autoscale import UNITS_PER_REPLICA, ScaleOptions
from controlplane.rollout.printed import LastWords
from controlplane.rollout.revocation import Revocations
from controlplane.rollout.secret_values import WithSecrets
from controlplane.rollout.state import Options
from controlplane.rollout.supervisor import Supervisor
from controlplane.runtimes import OutOfReachError
from controlplane.runtimes.process import ProcessRuntime
from controlplane.sampling import Sampler
from controlplane.settings import Settings
from controlplane.store import Endpoints, Secrets, Store, StoreUnavailableError, Tokens
from controlplane.translate import names
from controlplane.translate.gateway import Gateway
from controlplane.ui import PageDeps, create_page, mounted
from controlplane.ui.deps import SignIn
from controlplane.watch import WatchedMap

_log = logging.getLogger(__name__)

#: Seconds that a call of the API waits for what other programs have to say.
PATIENCE = 5.0


async def run(settings: Settings) -> None:
    """Run the control plane until SIGTERM or SIGINT; raises when it cannot start, or when a part of it ends."""
    loop, stopping = asyncio.get_running_loop(), _told_to_stop()

    clock = SystemClock()
    store = Store(settings.database_url)
    endpoints = Endpoints(store, WatchedMap[str, Endpoint]())
    endpoints.load()
    _keep_for_good()
    fleet = WatchedMap[str, Replica]()
    hub = Hub(clock, lease=settings.envoy_lease)
    secrets = Secrets(store, keys.secrets_key(settings.state_dir / "keys"))
    runtime = ProcessRuntime(Address.parse(settings.worker_host_address), fleet)
    registry = Registry(settings.mlflow_uri)
    registry.warm()
    envoys = Envoys([Address.parse(each) for each in settings.envoy_admin_address.split(",")], clock)
    measurements = Measurements(envoys, clock, units=lambda replicas: replicas * UNITS_PER_REPLICA)
    made = None if settings.no_auth else keys.load_or_make(settings.state_dir / "keys")
    tokens = Tokens(store)
    if made:
        tokens.add(made.admin)
    revocations = Revocations(tokens, hub, clock)
    supervisor = Supervisor(
        endpoints=endpoints,
        fleet=fleet,
        hub=hub,
        runtime=WithSecrets(runtime, secrets, fleet),
        gateway=gateway(settings),
        clock=clock,
        failing=LastWords(runtime, store).keep,
        options=Options(drain=settings.drain, grace=settings.grace, deploy_timeout=settings.deploy_timeout),
        scaling=ScaleOptions(down_after=settings.scale_down_after, to_zero_after=settings.scale_to_zero_after),
    )

    history = LoadHistory()

    def load_reported(node_id: str, reports: Sequence[LoadReport]) -> None:
        """What is heard is for the autoscaler and for the Serving page."""
        supervisor.load_reported(node_id, reports)
        history.heard(node_id, reports, clock.now_ms())

    def logs(replica_id: str, lines: int, kind: LogKind) -> str:
        """For the API's threads: what a replica has printed, or how its environment was built."""
        asked = (runtime.logs if kind is LogKind.OUTPUT else runtime.build_logs)(replica_id, lines)
        try:
            return asyncio.run_coroutine_threadsafe(asked, loop).result(PATIENCE)
        except (OutOfReachError, TimeoutError) as error:
            message = f"The worker host, which has the logs, does not answer: {error or 'it is silent'}."
            raise ProblemError(Problem("", ProblemCode.TEMPORARILY_UNAVAILABLE, message)) from error

    def waited_for(applied: Coroutine[None, None, Verdict]) -> str:
        """For the API's threads: who has not acknowledged it when the patience is over, "" when all have."""
        return "; ".join(asyncio.run_coroutine_threadsafe(applied, loop).result().waiting)

    def permissions_applied(endpoint: Endpoint) -> str:
        """Without tokens there is nobody to keep out, and Envoy is told nothing."""
        return waited_for(supervisor.wait_permitted(endpoint, PATIENCE)) if made else ""

    def announce() -> str:
        return waited_for(revocations.announce(PATIENCE))

    app = create_app(
        Deps(
            store=store,
            endpoints=endpoints,
            registry=registry,
            clock=clock,
            replicas_of=supervisor.replicas_of,
            logs=logs,
            measurements=measurements.of,
            fleet=_fleet_view(FleetMeasurements(envoys, clock), fleet, hub),
            status=lambda: _status(hub, runtime, endpoints, fleet),
            auth=Auth(made.signer, tokens, made.admin, announce) if made else None,
            secrets=secrets,
            permissions_applied=permissions_applied,
        )
    )
    page = PageDeps(
        api=app,
        endpoints=endpoints,
        clock=clock,
        history=history,
        form_key=keys.form_key(settings.state_dir / "keys"),
        replicas_of=supervisor.replicas_of,
        published=supervisor.published,
        sign_in=SignIn(made.signer, tokens, names.session_cookie(made.jwks)) if made else None,
    )
    api = serve_api(mounted(app, create_page(page)), Address.parse(settings.api_address), settings.api_threads)
    parts = {
        "runtime": runtime.run(),
        "supervisor": supervisor.run(),
        "xds": _xds(hub, supervisor, revocations, load_reported, Address.parse(settings.xds_address)),
        "sampler": Sampler(history, endpoints, supervisor.replicas_of, clock).run(),
    }
    try:
        await _until(stopping, parts)
    finally:
        await asyncio.to_thread(api.close)
        await asyncio.to_thread(registry.close)
        envoys.close()
        store.close()


def _fleet_view(traffic: FleetMeasurements, fleet: WatchedMap[str, Replica], hub: Hub) -> Callable[[], FleetView]:
    """For the API's threads: what there is to tell of the fleet."""
    return lambda: FleetView(traffic.read(), tuple(fleet.snapshot().values()), hub.envoys(), hub.ack_times())


def _told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    return stopping


async def _until(stopping: asyncio.Event, parts: Mapping[str, Coroutine[None, None, None]]) -> None:
    """Run all parts until it is time to stop; raises when one of them ends before."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(part, name=name) for name, part in parts.items()]
        await stopping.wait()
        for part in running:
            part.cancel()


async def _xds(
    hub: Hub, supervisor: Supervisor, revocations: Revocations, load_reported: load_reports.Listener, address: Address
) -> None:
    """Serve Envoys, but not before all that is stored is published: a part of it would make them drop the rest."""
    await supervisor.wait_published()
    _keep_for_good()
    await revocations.publish()
    server = await serve_xds(hub, address, [load_reports.handler(load_reported)])
    _log.info("serving Envoys on %s", server.address)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await server.stop()


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
        api=Address.parse(settings.api_address),
        request_timeout=settings.request_timeout,
        upstream_idle=min(60.0, settings.scale_to_zero_after / 2),
        max_body=settings.max_body << 20,
        jwks="" if settings.no_auth else keys.load_or_make(settings.state_dir / "keys").jwks,
    )


def _status(
    hub: Hub, runtime: ProcessRuntime, endpoints: Endpoints, fleet: WatchedMap[str, Replica]
) -> dict[str, object]:
    return {
        "version": version("wye"),
        "envoys": [asdict(envoy) for envoy in hub.envoys()],
        "worker_host": {"connected": runtime.connected},
        "endpoints": len(endpoints.cell),
        "replicas": [_replica_status(replica) for replica in fleet.snapshot().values()],
    }


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


def main() -> None:
    """Run the control plane with the environment's settings, logging to standard error."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    try:
        asyncio.run(run(Settings.read(os.environ)))
    except (StoreUnavailableError, ValueError) as error:
        sys.exit(str(error))  # one line for the user, who can act on it; a stack trace would not help
