"""From routings to Envoys: what is published of each endpoint, and how far the Envoys are with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeAlias

from controlplane.discovery.hub import Hub
from controlplane.domain import Endpoint, Verdict
from controlplane.rollout.record import Record
from controlplane.rollout.routing import Routing
from controlplane.rollout.state import Published
from controlplane.translate.gateway import Gateway
from controlplane.translate.resource import Resource, TypeUrl
from controlplane.translate.snapshot import Key
from controlplane.translate.translate import EndpointView, translate_endpoint, translate_gateway

#: What Envoys are given of one endpoint.
Resources: TypeAlias = dict[Key, Resource]


class Delivery:
    """One for all endpoints, on the supervisor's loop."""

    def __init__(self, hub: Hub, gateway: Gateway) -> None:
        self._hub = hub
        self._gateway = gateway
        #: Set when something has been published, which was all that there was.
        self.begun = asyncio.Event()
        self._waiting: set[asyncio.Event] = set()

    def translated(self, view: EndpointView) -> Resources:
        """What is to be published of an endpoint."""
        return {(r.type_url, r.name): r for r in translate_endpoint(view, self._gateway)}

    def publish(self, routings: Iterable[tuple[Record, Routing, Resources]]) -> None:
        """Publish these at once; of each the record then holds what, and what has to be acknowledged."""
        put: dict[Key, Resource] = {}
        removed: dict[Key, None] = {}
        if not self.begun.is_set():
            put.update({(r.type_url, r.name): r for r in translate_gateway(self._gateway)})
        for record, routing, resources in routings:
            gone = record.resources.keys() - resources.keys()
            for key in gone:
                removed[key] = None
                put.pop(key, None)
            put.update(resources)
            # Only clusters are waited for to be gone: their names hold the endpoint's id, so nobody takes them over.
            record.targets = {key: resource.version for key, resource in resources.items()}
            record.targets |= {key: None for key in gone if key[0] == TypeUrl.CLUSTER}
            record.resources = resources
            record.published = Published(routing.view, routing.version)
        self._hub.publish(self._hub.snapshot.successor(put.values(), removed))
        self.begun.set()

    def check(self, record: Record, now: float) -> bool:
        """Bring `record.published` up to what the Envoys have said; True when that changed it."""
        before = published = record.published
        assert published is not None
        if published.applied_at is None:
            verdict = self._hub.applied(record.targets)
            published = replace(
                published,
                applied_at=now if verdict.done else None,
                rejected="; ".join(rejection.message for rejection in verdict.rejections),
                waiting="; ".join(verdict.waiting),
            )
        if published.applied_at is not None and self._hub.applied(record.targets, include_lost=True).done:
            published = replace(published, settled_at=now)
        record.published = published
        return published != before

    def of_rules(self, stored: Endpoint, record: Record | None) -> Verdict:
        """Whether every Envoy keeps to the endpoint's permissions and limits, and to its stop."""
        view = record.published.view if record is not None and record.published is not None else None
        rules = (stored.may_query, stored.limits)
        if (
            record is None
            or view is None
            or (view.may_query, view.limits) != rules
            or (stored.suspended and view.split)
        ):
            return Verdict(done=False, waiting=("the endpoint's routes are not published yet",))
        routes = {key: version for key, version in record.targets.items() if key[0] == TypeUrl.ROUTES}
        return self._hub.applied(routes, include_lost=True)

    async def wait(self, question: Callable[[], Verdict], patience: float) -> Verdict:
        """The answer to the question when it is that all is done, or when the patience is over."""
        told = asyncio.Event()
        self._waiting.add(told)
        try:
            async with asyncio.timeout(patience):
                while not (verdict := question()).done:
                    told.clear()
                    await told.wait()
                return verdict
        except TimeoutError:
            return question()
        finally:
            self._waiting.discard(told)

    def changed(self) -> None:
        """Let those who wait ask again."""
        for told in self._waiting:
            told.set()
