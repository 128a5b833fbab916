"""The loop that carries configs out: for each endpoint about which anything changed, route, publish, plan, act.

It decides nothing itself: `routing` and `plan` do, on values. It works on the endpoints that changed and on no others,
so ten thousand idle ones cost it nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from controlplane.clock import Clock
from controlplane.discovery.hub import Hub
from controlplane.domain import Deployment, Endpoint, Phase, Replica, UpdateState, Verdict
from controlplane.domain.load import LoadReport
from controlplane.rollout.alarms import Alarms
from controlplane.rollout.autoscale import ScaleOptions
from controlplane.rollout.capacity import Claims, Room, room
from controlplane.rollout.delivery import Delivery, Resources
from controlplane.rollout.loads import Loads
from controlplane.rollout.plan import Plan, plan, sleepers
from controlplane.rollout.record import Record
from controlplane.rollout.restart import Crashes
from controlplane.rollout.routing import Routing, route
from controlplane.rollout.scaler import Scaler
from controlplane.rollout.secret_values import has_secrets
from controlplane.rollout.state import Options, Published
from controlplane.runtimes import Fleet, Runtime
from controlplane.store import Endpoints, StaleWriteError, StoreUnavailableError
from controlplane.translate.gateway import Gateway

_log = logging.getLogger(__name__)

#: Seconds after which a call that a runtime may have dropped is made again, and a failed write tried again.
AGAIN = 1.0
#: Seconds after which what a bug has prevented is tried again.
AFTER_A_BUG = 10.0


async def _nothing(_before: Endpoint, _after: Endpoint) -> None:
    pass


class Supervisor:
    """Runs endpoints: one instance, on one asyncio loop; `replicas_of` and `published` alone may be called from other threads."""

    def __init__(
        self,
        *,
        endpoints: Endpoints,
        fleet: Fleet,
        hub: Hub,
        runtime: Runtime,
        gateway: Gateway,
        clock: Clock,
        options: Options,
        scaling: ScaleOptions,
        failing: Callable[[Endpoint, Endpoint], Awaitable[None]] = _nothing,
    ) -> None:
        """`failing` is awaited with an endpoint before and after its update has failed, ahead of the failure being shown."""
        self._endpoints = endpoints
        self._fleet = fleet
        self._hub = hub
        self._runtime = runtime
        self._delivery = Delivery(hub, gateway)
        self._clock = clock
        self._options = options
        self._failing = failing
        self._scaler = Scaler(scaling)
        self._claims = Claims()
        self._loads = Loads()
        self._records: dict[str, Record] = {}
        self._ids: dict[str, str] = {}  # endpoint name → id
        self._owners: dict[str, str] = {}  # replica id → endpoint id
        self._replicas: dict[str, tuple[Replica, ...]] = {}  # endpoint id → replicas, for other threads
        self._dirty: set[str] = set()
        self._unapplied: set[str] = set()
        self._alarms = Alarms()
        self._wake = asyncio.Event()

    def replicas_of(self, endpoint_id: str) -> tuple[Replica, ...]:
        """The replicas of one endpoint as of the last change; safe to call from any thread."""
        return self._replicas.get(endpoint_id, ())

    def published(self, endpoint_id: str) -> Published | None:
        """What was last published of an endpoint, and how far the Envoys are with it; safe to call from any thread."""
        record = self._records.get(endpoint_id)
        return record.published if record is not None else None

    async def wait_published(self) -> None:
        """Return once everything that is stored has been published, so that Envoys may connect."""
        await self._delivery.begun.wait()

    def load_reported(self, node_id: str, reports: Sequence[LoadReport]) -> None:
        """Take what an Envoy reports of its requests; called on the loop of `run`."""
        self._dirty |= self._scaler.heard(self._loads.heard(node_id, reports), self._clock.monotonic())
        if self._dirty:
            self._wake.set()

    async def secret_changed(self, place: tuple[str, str]) -> None:
        """Have replicas that sleep wake with the new value: nobody asks us when they do."""
        for endpoint_id, record in tuple(self._records.items()):
            endpoint = self._endpoint(endpoint_id)
            observed = record.observed(self._scaler.wanted(endpoint_id))
            for spec in sleepers(endpoint, observed, place) if endpoint else ():
                await self._runtime.start(spec)

    async def wait_delivered(self, endpoint: Endpoint, patience: float) -> Verdict:
        """Return when every Envoy keeps to the endpoint's permissions and limits, and to its stop, or after the patience.

        What has been changed since by somebody else counts as it is stored now.
        """

        def delivered() -> Verdict:
            stored = self._endpoints.get(endpoint.name)
            if stored is None or stored.id != endpoint.id:
                return Verdict(done=True)  # it was deleted meanwhile
            return self._delivery.of_rules(stored, self._records.get(endpoint.id))

        return await self._delivery.wait(delivered, patience)

    async def run(self) -> None:
        """Carry out what is stored, and then every change, until cancelled."""
        await self._runtime.wait_connected()  # until then the fleet does not show what really runs
        configs, fleet, delivery = self._endpoints.cell.subscribe(), self._fleet.subscribe(), self._hub.subscribe()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._collect(configs.wait, lambda: self._configs_changed(configs.take())))
                tasks.create_task(self._collect(fleet.wait, lambda: self._fleet_changed(fleet.take())))
                tasks.create_task(self._collect(delivery.wait, lambda: self._delivery_changed(delivery.take())))
                self._configs_changed(configs.take())
                self._fleet_changed(fleet.take())
                while True:
                    await self._round(tasks)
                    await self._sleep()
        finally:
            for subscription in (configs, fleet, delivery):
                subscription.close()

    async def _collect(self, wait: Callable[[], Awaitable[None]], note: Callable[[], None]) -> None:
        while True:
            await wait()
            note()
            self._wake.set()

    async def _sleep(self) -> None:
        """Until something changed or an alarm is due."""
        alarm = self._alarms.next
        try:
            async with asyncio.timeout(None if alarm is None else max(0.0, alarm - self._clock.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
        self._dirty |= self._alarms.due(self._clock.monotonic())

    # What changed

    def _configs_changed(self, changed: Iterable[str]) -> None:
        for name in changed:
            endpoint = self._endpoints.get(name)
            before = self._ids.get(name)
            if before is not None and (endpoint is None or endpoint.id != before):
                self._dirty.add(before)
                del self._ids[name]
            if endpoint is not None:
                self._ids[name] = endpoint.id
                self._record(endpoint.id, name)
                self._dirty.add(endpoint.id)

    def _fleet_changed(self, changed: Iterable[str]) -> None:
        touched: set[str] = set()
        for replica_id in changed:
            replica = self._fleet.get(replica_id)
            owner = replica.deployment.endpoint_id if replica else self._owners.pop(replica_id, None)
            if owner is None:
                continue
            record = self._record(owner, "")
            before = record.replicas.get(replica_id)
            if replica is None:
                record.replicas.pop(replica_id, None)
                record.crashes.pop(replica_id, None)
            else:
                self._owners[replica_id] = owner
                record.replicas[replica_id] = replica
                known = record.crashes.get(replica_id, Crashes())
                crashes = record.crashes[replica_id] = known.then(before, replica, self._clock.monotonic())
                if crashes.times != known.times:
                    _log.warning("replica %s failed: %s", replica_id, replica.message)
                if (
                    before is not None
                    and before.phase is Phase.ASLEEP
                    and replica.phase in {Phase.STARTING, Phase.READY}
                ):
                    self._scaler.woke(replica.deployment, self._clock.monotonic())
            touched.add(owner)
        for owner in touched:
            self._tell(owner)
        self._dirty |= touched

    def _delivery_changed(self, _envoys: Iterable[str]) -> None:
        for endpoint_id in list(self._unapplied):
            if self._delivery.check(self._records[endpoint_id], self._clock.monotonic()):
                self._dirty.add(endpoint_id)
        self._delivery.changed()

    def _record(self, endpoint_id: str, name: str) -> Record:
        record = self._records.get(endpoint_id)
        if record is None:
            record = self._records[endpoint_id] = Record(name)
        if name:
            record.name = name
        return record

    # What is done about it

    async def _round(self, tasks: asyncio.TaskGroup) -> None:
        """Route and publish all that changed at once, then plan and act for each."""
        dirty, self._dirty = self._dirty, set()
        # Endpoints that are gone come first: one that took over the name puts back what they remove.
        # An id may come up once more after the last of its endpoint is forgotten: an alarm, a load report on its way.
        known = dirty & self._records.keys()
        ordered = sorted(known, key=lambda endpoint_id: self._endpoint(endpoint_id) is not None)
        for endpoint_id in ordered:
            with self._by_itself(endpoint_id):
                self._scale(endpoint_id)
        self._publish(ordered)
        for endpoint_id in ordered:
            record = self._records.get(endpoint_id)
            if record is not None and not record.saving and self._runtime.connected:
                with self._by_itself(endpoint_id):
                    await self._act(tasks, endpoint_id, record)
            elif record is not None and not record.saving:
                self._alarm(AGAIN, endpoint_id)
            self._forget_if_gone(endpoint_id)

    @contextlib.contextmanager
    def _by_itself(self, endpoint_id: str) -> Iterator[None]:
        """What a bug does to one endpoint it does to no other, so that this one can still be changed or deleted."""
        record = self._records[endpoint_id]
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a bug raises
            if repr(error) != record.bug:
                _log.exception("endpoint %s stays as it is, because of a bug of Wye; it is tried again", record.name)
            record.bug = repr(error)
            self._alarm(AFTER_A_BUG, endpoint_id)

    def _scale(self, endpoint_id: str) -> None:
        """Let the scaler look at an endpoint, and be reminded when it wants to look again."""
        now = self._clock.monotonic()
        running = {Phase.STARTING, Phase.READY}
        awake = Counter(r.deployment for r in self._records[endpoint_id].replicas.values() if r.phase in running)
        capped = self._scaler.capped(endpoint_id)
        self._scaler.follow(endpoint_id, self._endpoint(endpoint_id), now, awake, self._room, self._grant)
        if self._scaler.capped(endpoint_id) != capped:
            self._tell(endpoint_id)
        again = self._scaler.ask_again_at(endpoint_id)
        if again is not None:
            self._alarms.ring_at(again, endpoint_id)

    def _room(self, where: Deployment) -> Room | None:
        machine = self._runtime.machine
        if machine is None:
            return None
        claimed = self._claims.of_others(where, self._clock.monotonic())
        return room(machine, self._running(where), self._scaler.options.per_processor, claimed)

    def _grant(self, where: Deployment, replicas: int) -> None:
        if self._runtime.machine is not None:
            self._claims.claim(where, replicas, self._runtime.machine, self._running(where), self._clock.monotonic())

    def _running(self, where: Deployment) -> list[str]:
        """The replicas that have a process, or had one a moment ago, whose memory is not free by the last measurement."""
        replicas = self._records[where.endpoint_id].replicas.values()
        return [each.id for each in replicas if each.deployment == where and (each.pid or each.phase is Phase.FAILED)]

    def _tell(self, endpoint_id: str) -> None:
        """Show other threads the endpoint's replicas."""
        self._replicas[endpoint_id] = self._records[endpoint_id].shown(self._scaler.capped(endpoint_id))

    def _publish(self, endpoint_ids: list[str]) -> None:
        now = self._clock.monotonic()
        changed: dict[str, tuple[Record, Routing, Resources]] = {}
        for endpoint_id in endpoint_ids:
            record = self._records[endpoint_id]
            # At the start a bug ends all of us: Envoys would drop what they have of an endpoint that is not published.
            with self._by_itself(endpoint_id) if self._delivery.begun.is_set() else contextlib.nullcontext():
                observed = record.observed(self._scaler.wanted(endpoint_id))
                published = record.published
                routing = route(
                    record.name, self._endpoint(endpoint_id), observed, published, now=now, options=self._options
                )
                if routing.wake_at is not None:
                    self._alarms.ring_at(routing.wake_at, endpoint_id)
                if published is None or (routing.view, routing.version) != (published.view, published.version):
                    changed[endpoint_id] = (record, routing, self._delivery.translated(routing.view))
        self._delivery.publish(changed.values())
        for endpoint_id, (record, *_) in changed.items():
            self._unapplied.add(endpoint_id)
            if self._delivery.check(record, self._clock.monotonic()):
                # There was nothing to send, so no acknowledgement will bring it up again; the drain begins now.
                self._dirty.add(endpoint_id)
                self._wake.set()
        self._delivery.changed()

    async def _act(self, tasks: asyncio.TaskGroup, endpoint_id: str, record: Record) -> None:
        now = self._clock.monotonic()
        todo = plan(
            self._endpoint(endpoint_id),
            record.observed(self._scaler.wanted(endpoint_id)),
            record.published,
            now=now,
            now_ms=self._clock.now_ms(),
            options=self._options,
        )
        if todo.finished is not None:
            record.saving = True
            tasks.create_task(self._finish(endpoint_id, record, todo.finished), name=f"finish {record.name}")
        for spec in todo.start:
            await self._runtime.start(spec)
        for replica_id, grace in todo.stop:
            await self._runtime.stop(replica_id, grace)
        for spec, grace in todo.sleep:
            await self._runtime.sleep(spec.id, grace)
            if has_secrets(spec):  # which may be others by now than those that it was started with
                await self._runtime.start(spec)
        self._set_alarms(endpoint_id, record, todo)

    def _set_alarms(self, endpoint_id: str, record: Record, todo: Plan) -> None:
        if todo.wake_at is not None:
            self._alarms.ring_at(todo.wake_at, endpoint_id)
        if todo.start or todo.stop or todo.sleep:
            self._alarm(AGAIN, endpoint_id)  # a runtime out of reach drops calls; the plan is simply made again
        if record.published and record.published.settled_at is not None:
            self._unapplied.discard(endpoint_id)

    async def _finish(self, endpoint_id: str, record: Record, finished: Endpoint) -> None:
        """Write the end of an update; API threads and this loop never wait for each other."""
        try:
            with self._by_itself(endpoint_id):
                if await self._written(finished):
                    self._dirty.add(endpoint_id)
                else:
                    self._alarm(AGAIN, endpoint_id)
        finally:
            record.saving = False
            self._wake.set()

    async def _written(self, finished: Endpoint) -> bool:
        """False when the store is out of reach; somebody else's write is as good as ours, for a plan is made of it anew."""
        attempted = self._endpoints.get(finished.name)
        if finished.update is UpdateState.UPDATE_FAILED and attempted is not None:
            await self._failing(attempted, finished)
        try:
            try:
                await asyncio.to_thread(self._endpoints.save, finished)
                _log.info("endpoint %s: config version %d: %s", finished.name, finished.latest_version, finished.update)
            except StaleWriteError:
                await asyncio.to_thread(self._endpoints.refresh, finished.name)
        except StoreUnavailableError as error:
            _log.warning("the end of the update of %s cannot be stored, trying again: %s", finished.name, error)
            return False
        return True

    def _forget_if_gone(self, endpoint_id: str) -> None:
        """Drop the record of a deleted endpoint of which nothing is left."""
        record = self._records.get(endpoint_id)
        if record is not None and record.is_settled() and self._endpoint(endpoint_id) is None:
            del self._records[endpoint_id]
            self._replicas.pop(endpoint_id, None)
            self._unapplied.discard(endpoint_id)
            self._alarms.forget(endpoint_id)

    def _endpoint(self, endpoint_id: str) -> Endpoint | None:
        record = self._records.get(endpoint_id)
        endpoint = self._endpoints.get(record.name) if record else None
        return endpoint if endpoint is not None and endpoint.id == endpoint_id else None

    def _alarm(self, delay: float, endpoint_id: str) -> None:
        self._alarms.ring_at(self._clock.monotonic() + delay, endpoint_id)
