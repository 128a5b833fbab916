"""How requests of the delta variant change a subscription (xds.md 1.4). PURE."""

from __future__ import annotations

from collections.abc import Collection

from controlplane.discovery.messages import DeltaRequest
from controlplane.discovery.subscription import Reaction, Resources, Subscription


class DeltaSubscription(Subscription):
    """The delta variant: requests change the subscription, responses carry changes, each nonce is answered by itself."""

    def on_request(self, request: DeltaRequest, have: Resources, must_send: Collection[str] = ()) -> Reaction:
        """Take one request; `must_send` are names that a first request gets even if the client has them."""
        settled = self.settle(request.nonce, request.error) if request.nonce else None
        subscribe = set(request.subscribe) - {""}
        unsubscribe = set(request.unsubscribe) - {""}
        forgotten: frozenset[str] = frozenset()
        if not self.started:
            self._start(request, subscribe, have, must_send)
        else:
            if "*" in subscribe:
                self.wild = True
                self.forced |= have.keys()
                self.dirty |= have.keys()
                self.owes_reply = True
            self.names |= subscribe - {"*"}
            # Envoy re-subscribes to a name when it has dropped what it had, so being up to date is no reason to keep silent.
            self.force(subscribe - {"*"})
        if unsubscribe:
            forgotten = self._unsubscribe(unsubscribe)
        return Reaction((settled,) if settled else (), forgotten)

    def _start(self, request: DeltaRequest, subscribe: set[str], have: Resources, must_send: Collection[str]) -> None:
        self.started = True
        self.wild = not subscribe or "*" in subscribe
        self.names = subscribe - {"*"}
        self.owes_reply = self.wild
        self.known = dict(request.initial)
        self.acked = dict(request.initial)
        # Only what differs: a client that comes back to a restarted control plane has nearly everything.
        self.dirty |= {name for name, version in self.known.items() if not self._is_current(name, version, have)}
        self.dirty |= (have.keys() | self.names if self.wild else self.names) - self.known.keys()
        self.asked |= self.names - self.known.keys()
        self.force(must_send)

    def _is_current(self, name: str, version: str, have: Resources) -> bool:
        resource = have.get(name)
        return resource is not None and resource.version == version and self.wants(name)

    def _unsubscribe(self, unsubscribe: set[str]) -> frozenset[str]:
        named = unsubscribe & self.names
        self.names -= named
        forgotten: frozenset[str] = frozenset()
        if "*" in unsubscribe and self.wild:
            self.wild = False
            forgotten |= self._forget((self.known.keys() | self.dirty) - self.names)
        forgotten |= self._forget(named)
        if self.wild:
            # The client dropped what it had under the name, but the wildcard still covers it.
            self.force(named)
        return forgotten
