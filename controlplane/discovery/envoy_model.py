"""How an Envoy answers, without I/O: what it asks for, what it has, and when it acknowledges.

For tests, here and elsewhere; `testing.FakeEnvoy` puts it behind a real gRPC stream. Measured habits of Envoy 1.40 that
it keeps: a cluster that was added or changed is warming until endpoints (or the word that there are none) arrive after
it; the ACK for clusters is held back until all are warm, and so is the first request for clusters on a new stream;
endpoints are asked for per cluster and routes per scope, and given up with them; the removal of routes is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

from google.protobuf import descriptor_pb2

from controlplane.discovery.messages import DeltaRequest, Node, SotwRequest, Variant
from controlplane.discovery.wire import message_classes
from controlplane.translate.resource import Resource, TypeUrl

_FIELD = descriptor_pb2.FieldDescriptorProto
_CLASSES = message_classes(
    "wye.model",
    {
        # Every resource type has its name in field 1; a scope has that of its routes in field 2.
        "Named": {
            "name": (1, _FIELD.TYPE_STRING, _FIELD.LABEL_OPTIONAL),
            "routes": (2, _FIELD.TYPE_STRING, _FIELD.LABEL_OPTIONAL),
        },
    },
)

Request = DeltaRequest | SotwRequest

#: The order in which Envoy asks again on a new stream.
_ORDER = (TypeUrl.CLUSTER, TypeUrl.ENDPOINTS, TypeUrl.LISTENER, TypeUrl.SCOPE, TypeUrl.ROUTES)


class _Named(Protocol):
    name: str
    routes: str


def name_of(body: bytes) -> str:
    """The name in a serialised resource of any type."""
    return cast("_Named", _CLASSES["Named"].FromString(body)).name


def routes_of(scope: bytes) -> str:
    """The RouteConfiguration that a serialised scope leads to."""
    return cast("_Named", _CLASSES["Named"].FromString(scope)).routes


@dataclass(frozen=True, slots=True)
class Received:
    """A response as the client sees it."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the resources, sorted."""
        return tuple(sorted(resource.name for resource in self.resources))


Refusal = Callable[[Resource], str]


def accept(_: Resource) -> str:
    """The refusal of a client that refuses nothing."""
    return ""


@dataclass
class EnvoyModel:
    """State of one client over one stream; every method returns the requests that the client sends next."""

    variant: Variant = Variant.DELTA
    node: Node = field(default_factory=lambda: Node("envoy-1", "gateway", "envoy", "1.40.0"))
    #: Ask for endpoints and routes by itself, as Envoy does; else only what `subscribe` says.
    follows: bool = False
    #: Returns Envoy's words for a resource that is to be refused, "" for one that is fine.
    refusal: Refusal = accept
    #: What the client has; survives a reconnect.
    view: dict[str, dict[str, Resource]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    #: Types whose responses are not answered until `answer` is called.
    mute: set[str] = field(default_factory=set)
    #: Clusters that wait for endpoints.
    warming: set[str] = field(default_factory=set)
    subscribed: dict[str, set[str]] = field(default_factory=dict)
    _unanswered: list[tuple[Received, str | None]] = field(default_factory=list)
    _last_nonce: dict[str, str] = field(default_factory=dict)
    _last_version: dict[str, str] = field(default_factory=dict)
    _introduced: bool = False
    _clusters_deferred: bool = False

    def versions(self, type_url: str) -> dict[str, str]:
        """Name -> version of what the client has of one type."""
        return {name: resource.version for name, resource in sorted(self.view.get(type_url, {}).items())}

    def start(self) -> list[Request]:
        """The first requests on a new stream: what it asked for before, and what it has of that."""
        self._introduced = False
        self._last_nonce.clear()
        self._unanswered.clear()
        self._clusters_deferred = False
        types = list(self.subscribed)
        if self.follows and not types:
            types = [TypeUrl.CLUSTER, TypeUrl.LISTENER, TypeUrl.SCOPE]
        requests: list[Request] = []
        for type_url in sorted(types, key=lambda each: (_ORDER.index(each) if each in _ORDER else len(_ORDER), each)):
            names = self.subscribed.setdefault(type_url, {"*"} if self.follows else set())
            if type_url == TypeUrl.CLUSTER and self.warming:
                self._clusters_deferred = True
            else:
                requests += self._first(type_url, names)
        return requests

    def subscribe(self, type_url: str, names: Iterable[str] = (), unsubscribe: Iterable[str] = ()) -> list[Request]:
        """Change the subscription; in the state of the world `names` is all of it."""
        known = type_url in self.subscribed
        if self.variant is Variant.SOTW:
            self.subscribed[type_url] = set(names)
            return [self._sotw(type_url)]
        subscribed = self.subscribed.setdefault(type_url, set())
        subscribed |= set(names)
        gone = set(unsubscribe)
        subscribed -= gone
        for name in gone:
            self.view.get(type_url, {}).pop(name, None)
        if not known:
            return self._first(type_url, set(names))
        return [self._delta(type_url, subscribe=names, unsubscribe=gone)]

    def receive(self, response: Received) -> list[Request]:
        """Take a response: apply what is fine in it, answer it, and ask for what follows from it."""
        self.received.append(response)
        self._last_nonce[response.type_url] = response.nonce
        present = self.versions(response.type_url)
        errors = {
            resource.name: words
            for resource in response.resources
            if present.get(resource.name) != resource.version and (words := self.refusal(resource))
        }
        changed = self._apply(response, errors)
        error = "Error adding/updating: " + ", ".join(f"{name}: {words}" for name, words in errors.items())
        requests = self._follow(response, changed) if self.follows else []
        self._unanswered.append((response, error if errors else None))
        return [*requests, *self._answers()]  # in this order, measured

    def answer(self, *types: str) -> list[Request]:
        """Answer what was left unanswered of these types (none: of all), and whatever comes next."""
        self.mute -= set(types or self.mute)
        return self._answers()

    def give_up_warming(self) -> list[Request]:
        """Envoy's initial fetch timeout: use the clusters without the endpoints that did not come."""
        self.warming.clear()
        return self._answers()

    def _answers(self) -> list[Request]:
        kept: list[tuple[Received, str | None]] = []
        requests: list[Request] = []
        if self._clusters_deferred and not self.warming:
            self._clusters_deferred = False
            requests += self._first(TypeUrl.CLUSTER, self.subscribed[TypeUrl.CLUSTER])
        for response, error in self._unanswered:
            held = response.type_url == TypeUrl.CLUSTER and self.warming
            if held or response.type_url in self.mute:
                kept.append((response, error))
            else:
                requests.append(self._reply(response, error))
        self._unanswered = kept
        return requests

    def _apply(self, response: Received, errors: Mapping[str, str]) -> list[str]:
        view = self.view.setdefault(response.type_url, {})
        full = self.variant is Variant.SOTW and response.type_url in {
            TypeUrl.CLUSTER,
            TypeUrl.LISTENER,
            TypeUrl.SCOPE,
        }
        names = {resource.name for resource in response.resources}
        gone = view.keys() - names if full else set(response.removed)
        if response.type_url != TypeUrl.ROUTES or not self.follows:  # Envoy ignores the removal of routes
            for name in gone:
                view.pop(name, None)
        changed = []
        asked = self.subscribed.get(response.type_url, set())
        for resource in response.resources:
            before = view.get(resource.name)
            given_up = self.follows and "*" not in asked and resource.name not in asked
            if resource.name not in errors and not given_up:
                view[resource.name] = resource
                if before is None or before.version != resource.version:
                    changed.append(resource.name)
        if self.follows and response.type_url == TypeUrl.CLUSTER:
            self.warming = (self.warming | set(changed)) & view.keys()
        if response.type_url == TypeUrl.ENDPOINTS:
            self.warming -= names | set(response.removed)
        return changed

    def _follow(self, response: Received, changed: list[str]) -> list[Request]:
        view = self.view[response.type_url]
        if response.type_url == TypeUrl.CLUSTER:
            return self._follow_names(TypeUrl.ENDPOINTS, set(view), again=bool(changed))
        if response.type_url == TypeUrl.SCOPE:
            return self._follow_names(TypeUrl.ROUTES, {routes_of(scope.body) for scope in view.values()})
        return []

    def _follow_names(self, type_url: str, names: set[str], *, again: bool = False) -> list[Request]:
        before = self.subscribed.get(type_url, set())
        new, gone = names - before, before - names
        for name in gone:
            self.view.get(type_url, {}).pop(name, None)
        if self.variant is Variant.SOTW:
            if not new and not gone and not (again and names):
                return []
            self.subscribed[type_url] = names
            return [self._sotw(type_url)]
        if not new and not gone:
            return []
        self.subscribed[type_url] = set(names)
        if not before and type_url not in self._last_nonce:
            return self._first(type_url, new)
        return [self._delta(type_url, subscribe=new, unsubscribe=gone)]

    def _first(self, type_url: str, names: Iterable[str]) -> list[Request]:
        if self.variant is Variant.SOTW:
            return [self._sotw(type_url)]
        names = sorted(names)
        subscribe = () if names == ["*"] else names
        return [self._delta(type_url, subscribe=subscribe, initial=self.versions(type_url))]

    def _reply(self, response: Received, error: str | None) -> Request:
        if self.variant is Variant.SOTW:
            if error is None:
                self._last_version[response.type_url] = response.version
            version = self._last_version.get(response.type_url, "")
            names = self._listed(response.type_url)
            return SotwRequest(response.type_url, names, response.nonce, error, self._introduce(), version)
        return DeltaRequest(response.type_url, nonce=response.nonce, error=error, node=self._introduce())

    def _listed(self, type_url: str) -> list[str]:
        names = self.subscribed.get(type_url, set())
        # The old style of saying "all" is to say nothing.
        return [] if self.follows and names == {"*"} else sorted(names)

    def _sotw(self, type_url: str) -> SotwRequest:
        nonce, version = self._last_nonce.get(type_url, ""), self._last_version.get(type_url, "")
        return SotwRequest(type_url, self._listed(type_url), nonce, None, self._introduce(), version)

    def _delta(
        self,
        type_url: str,
        subscribe: Iterable[str] = (),
        unsubscribe: Iterable[str] = (),
        initial: Mapping[str, str] | None = None,
    ) -> DeltaRequest:
        node = self._introduce()
        return DeltaRequest(type_url, sorted(subscribe), sorted(unsubscribe), initial or {}, node=node)

    def _introduce(self) -> Node | None:
        if self._introduced:
            return None
        self._introduced = True
        return self.node
