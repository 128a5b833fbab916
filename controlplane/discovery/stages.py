"""What may be sent now on one stream, so that no request is lost on the way from one configuration to the next. PURE.

Make before break, per resource instead of in global phases, so that one endpoint that is stuck holds up no other:

- a route, or the scope that leads to it, goes out when the client has acknowledged every cluster it refers to (over ADS
  Envoy acknowledges a cluster only once it is warm);
- a cluster is withdrawn when no route or scope that the client may be using refers to it;
- a cluster that was sent is followed by its endpoints even if they have not changed: Envoy has made a new, warming
  cluster of it and would wait for them in vain until a timeout;
- scopes go before the routes they lead to when added, and are gone before them when removed.

Endpoints and weights depend on nothing and go at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.discovery.references import References
from controlplane.discovery.subscription import Reaction, Settled, Subscription
from controlplane.discovery.waiting import Waiting
from controlplane.translate.resource import Resource, TypeUrl
from controlplane.translate.snapshot import Key, Snapshot

_PUT_ORDER = (
    TypeUrl.CLUSTER,
    TypeUrl.ENDPOINTS,
    TypeUrl.SECRET,
    TypeUrl.EXTENSION,
    TypeUrl.LISTENER,
    TypeUrl.SCOPE,
    TypeUrl.ROUTES,
    TypeUrl.VIRTUAL_HOST,
    TypeUrl.RUNTIME,
)

#: Removed when all that is to be added has been sent, users before what they use.
_REMOVE_ORDER = (TypeUrl.ROUTES, TypeUrl.EXTENSION, TypeUrl.SECRET, TypeUrl.CLUSTER, TypeUrl.ENDPOINTS)

#: Waits for its removal until nothing of these types is on its way to the client.
_REMOVED_AFTER: Mapping[str, tuple[str, ...]] = {
    TypeUrl.ROUTES: (TypeUrl.SCOPE,),
    TypeUrl.EXTENSION: (TypeUrl.LISTENER,),
    TypeUrl.SECRET: (TypeUrl.LISTENER, TypeUrl.CLUSTER),
}

#: Clusters and their endpoints are what others refer to.
_REFERRED_TO = frozenset({TypeUrl.CLUSTER, TypeUrl.ENDPOINTS})


@dataclass(frozen=True, slots=True)
class Draft:
    """The next response: one type, what the client is to have, and what it is to be without."""

    type_url: str
    puts: Sequence[Resource] = ()
    removed: Sequence[str] = ()


class Stages:
    """Chooses what one stream sends next, from the subscriptions on it and what the client has acknowledged."""

    def __init__(self, subscriptions: Mapping[str, Subscription]) -> None:
        #: Set when the client is one that takes all clusters, so that routes wait even before it has asked for any:
        #: an Envoy that is warming clusters when it reconnects asks for them last.
        self.expects_clusters = False
        self._subscriptions = subscriptions
        self._references = References()
        #: The client has clusters from an earlier stream, and may not have told yet which routes.
        self._catching_up = False
        self._waiting = Waiting()
        #: Removals that wait until nothing needs them, by type.
        self._lingering: dict[str, set[str]] = {}
        #: The endpoints that the client has.
        self._endpoints: dict[str, Resource] = {}
        #: Clusters sent before the client asked for any endpoints: those endpoints are due even if it has them.
        self._endpoints_due: set[str] = set()

    def missing(self, key: Key) -> frozenset[str]:
        """The clusters that `key` is held back for."""
        return self._waiting.missing(key)

    def held(self, type_url: str) -> int:
        """How many resources of the type are held back."""
        return len(self._waiting.names(type_url))

    def endpoints_due(self, names: Sequence[str]) -> frozenset[str]:
        """Of the endpoints that the client's first request names, those it must be sent even if it has them.

        A client that asks for endpoints before it has asked for clusters is warming some (that keeps its cluster
        request back), and which ones it does not say.
        """
        if TypeUrl.CLUSTER not in self._subscriptions:
            return frozenset(names)
        due, self._endpoints_due = self._endpoints_due, set()
        return frozenset(due.intersection(names))

    def brought(self, type_url: str, versions: Mapping[str, str], have: Mapping[str, Resource]) -> None:
        """The client has these from an earlier stream."""
        if type_url == TypeUrl.CLUSTER:
            self._catching_up = bool(versions)
            for cluster in self._waiting.clusters:
                self._release(cluster)
        for name, version in versions.items():
            resource = have.get(name)
            if resource is not None and resource.version != version:
                resource = None
            if type_url not in _REFERRED_TO:
                self._references.brought((type_url, name), resource.refs if resource is not None else None)
            elif type_url == TypeUrl.ENDPOINTS and resource is not None:
                self._endpoints[name] = resource

    def resumed(self) -> None:
        """The client has something from an earlier stream, of which it does not say everything."""
        self._catching_up = True

    def react(self, type_url: str, reaction: Reaction) -> None:
        """Take what a request meant: what was held back for it may go now."""
        for settled in reaction.settled:
            self._settled(type_url, settled)
        for name in reaction.forgotten:
            self._waiting.drop((type_url, name))
            self._forget((type_url, name))
        self._look_at_freed()
        if reaction.settled:
            if self._catching_up:
                # A client says all that it has before it answers anything on a new stream.
                self._catching_up = False
                self._look_again(TypeUrl.CLUSTER)
            if type_url == TypeUrl.CLUSTER:
                self._look_again(TypeUrl.ENDPOINTS)
            for dependent, users in _REMOVED_AFTER.items():
                if type_url in users:
                    self._look_again(dependent)

    def draft(self, snapshot: Snapshot) -> Draft | None:
        """What to send next, or None when there is nothing to send now; follow it with `sent`."""
        # A pass that sends nothing may still set something free that was passed already.
        while any(subscription.has_work for subscription in self._subscriptions.values()):
            for type_url in self._ordered():
                draft = self._draft_puts(self._subscriptions[type_url], snapshot)
                self._look_at_freed()
                if draft is not None:
                    return draft
            for type_url in _REMOVE_ORDER:
                subscription = self._subscriptions.get(type_url)
                if subscription is not None and subscription.leaving and not subscription.congested:
                    removed = self._removable(subscription)
                    if removed:
                        return Draft(type_url, (), removed)
        return None

    def sent(self, draft: Draft, seq: int) -> None:
        """The draft is on its way as response `seq`."""
        if draft.type_url == TypeUrl.CLUSTER:
            self._follow_with_endpoints([resource.name for resource in draft.puts])
        elif draft.type_url == TypeUrl.ENDPOINTS:
            self._endpoints.update((resource.name, resource) for resource in draft.puts)
        else:
            for resource in draft.puts:
                self._references.sent((draft.type_url, resource.name), seq, resource.refs)
        for name in draft.removed:
            if draft.type_url == TypeUrl.ENDPOINTS:
                self._endpoints.pop(name, None)
            elif draft.type_url not in _REFERRED_TO:
                self._references.sent((draft.type_url, name), seq, frozenset())

    def _ordered(self) -> list[str]:
        known = [type_url for type_url in _PUT_ORDER if type_url in self._subscriptions]
        return known + sorted(self._subscriptions.keys() - set(known))

    def _draft_puts(self, subscription: Subscription, snapshot: Snapshot) -> Draft | None:
        if not subscription.has_work:
            return None
        type_url, have = subscription.type_url, snapshot.of(subscription.type_url)
        while subscription.alone:
            name = subscription.alone.popleft()
            subscription.forced.add(name)
            subscription.asked.add(name)
            subscription.dirty.discard(name)
            put, removed = self._examine(subscription, name, have)
            if put is not None or removed:
                return Draft(type_url, (put,) if put else (), (name,) if removed else ())
        if subscription.resuming and not self._may_resume(subscription, have):
            return None
        puts: list[Resource] = []
        absent: list[str] = []
        for name in sorted(subscription.dirty):
            put, removed = self._examine(subscription, name, have)
            if put is not None:
                puts.append(put)
            elif removed:
                absent.append(name)
        subscription.dirty.clear()
        if type_url not in _REMOVE_ORDER and subscription.leaving:
            # One response for both: a client that replaces one by the other must not see them collide.
            absent += self._removable(subscription)
        if puts or absent or subscription.owes_reply:
            return Draft(type_url, puts, absent)
        return None

    def _examine(
        self, subscription: Subscription, name: str, have: Mapping[str, Resource]
    ) -> tuple[Resource | None, bool]:
        """The resource if it is to be sent now, or True if its absence is to be told now."""
        key = (subscription.type_url, name)
        if self._waiting:
            self._waiting.drop(key)
        resource = have.get(name)
        if resource is None and subscription.type_url == TypeUrl.ENDPOINTS and name in subscription.forced:
            if not self._may_leave(TypeUrl.ENDPOINTS, name):
                # The cluster was changed and then removed, but has to stay for now: it needs the hosts that it had.
                resource = self._endpoints.get(name)
                self._lingering.setdefault(TypeUrl.ENDPOINTS, set()).add(name)
            if resource is None:
                subscription.forced.discard(name)
                subscription.asked.discard(name)
                return None, subscription.tells_absence
        if resource is None:
            return None, self._absent(subscription, name)
        subscription.leaving.discard(name)
        subscription.asked.discard(name)
        if not subscription.wants(name):
            subscription.drop(name)
            self._forget(key)
            return None, False
        if resource.version in subscription.rejected.get(name, ()):
            return None, False
        if subscription.known.get(name) == resource.version and name not in subscription.forced:
            # A scope's bytes do not say which clusters it leads to, so that may change without a new version.
            if subscription.type_url not in _REFERRED_TO:
                self._references.replace(key, resource.refs)
            return None, False
        missing = self._missing(subscription.type_url, resource.refs)
        if missing:
            self._waiting.hold(key, missing)
            return None, False
        return resource, False

    def _absent(self, subscription: Subscription, name: str) -> bool:
        subscription.forced.discard(name)
        asked = name in subscription.asked
        subscription.asked.discard(name)
        if name in subscription.known:
            if subscription.tells_removal:
                subscription.leaving.add(name)
            else:
                # The client drops it by itself when nothing leads to it any more.
                subscription.drop(name)
                self._forget((subscription.type_url, name))
            return False
        return asked and subscription.tells_absence

    def _missing(self, type_url: str, refs: frozenset[str]) -> frozenset[str]:
        if not refs or type_url in _REFERRED_TO:
            return frozenset()
        clusters = self._subscriptions.get(TypeUrl.CLUSTER)
        if clusters is None:
            return refs if self.expects_clusters else frozenset()
        if not clusters.wild:
            # A client that takes clusters by name (gRPC) asks for them when it has the route.
            return frozenset()
        if clusters.acked.keys() >= refs and clusters.known.keys() >= refs:
            return frozenset()
        return frozenset(ref for ref in refs if ref not in clusters.acked or ref not in clusters.known)

    def _removable(self, subscription: Subscription) -> list[str]:
        removed = []
        for name in sorted(subscription.leaving):
            if self._may_leave(subscription.type_url, name):
                removed.append(name)
            else:
                self._lingering.setdefault(subscription.type_url, set()).add(name)
        subscription.leaving.clear()
        return removed

    def _may_leave(self, type_url: str, name: str) -> bool:
        if type_url == TypeUrl.CLUSTER:
            return not self._catching_up and not self._references.is_used(name)
        if type_url == TypeUrl.ENDPOINTS:
            clusters = self._subscriptions.get(TypeUrl.CLUSTER)
            leaves_too = clusters is not None and (name in clusters.leaving or name in clusters.departing)
            return not leaves_too and name not in self._lingering.get(TypeUrl.CLUSTER, ())
        for other in _REMOVED_AFTER.get(type_url, ()):
            users = self._subscriptions.get(other)
            if users is not None and (users.in_flight or users.dirty or users.leaving):
                return False
        return True

    def _settled(self, type_url: str, settled: Settled) -> None:
        if type_url == TypeUrl.CLUSTER and self._waiting:
            for name in settled.acked:
                self._release(name)
        elif type_url not in _REFERRED_TO:
            for name in settled.acked:
                self._references.acked((type_url, name), settled.seq)
        if type_url not in _REFERRED_TO:
            for name in settled.rejected:
                self._references.rejected((type_url, name), settled.seq)

    def _release(self, cluster: str) -> None:
        """What waits for the cluster is looked at again."""
        for type_url, name in self._waiting.waiting_for(cluster):
            self._subscriptions[type_url].dirty.add(name)

    def _may_resume(self, subscription: Subscription, have: Mapping[str, Resource]) -> bool:
        """Whether a first response would be complete; if not, all of it is held back, for what it lacks is deleted."""
        type_url = subscription.type_url
        subscription.dirty |= self._waiting.names(type_url)
        names = [name for name in sorted(subscription.dirty) if name in have and subscription.wants(name)]
        missing = frozenset[str]().union(*(self._missing(type_url, have[name].refs) for name in names))
        if not missing:
            subscription.owes_reply = True
            return True
        for name in subscription.dirty:
            self._waiting.drop((type_url, name))
        for name in names:
            self._waiting.hold((type_url, name), missing)
        subscription.dirty.clear()
        subscription.owes_reply = False
        return False

    def _forget(self, key: Key) -> None:
        if key[0] not in _REFERRED_TO:
            self._references.gone(key)
        elif key[0] == TypeUrl.ENDPOINTS:
            self._endpoints.pop(key[1], None)
        self._lingering.get(key[0], set()).discard(key[1])

    def _look_at_freed(self) -> None:
        freed = self._references.take_freed()
        if freed is None or freed:
            self._look_again(TypeUrl.CLUSTER, freed)

    def _look_again(self, type_url: str, only: frozenset[str] | None = None) -> None:
        """Removals that linger may be possible now."""
        lingering = self._lingering.get(type_url)
        if lingering:
            names = lingering if only is None else lingering & only
            # Through `dirty`, because the resource may have come back meanwhile.
            self._subscriptions[type_url].dirty |= names
            self._lingering[type_url] = lingering - names

    def _follow_with_endpoints(self, clusters: Sequence[str]) -> None:
        endpoints = self._subscriptions.get(TypeUrl.ENDPOINTS)
        if endpoints is None:
            self._endpoints_due.update(clusters)
        else:
            endpoints.force(clusters)
