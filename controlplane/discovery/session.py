"""One xDS stream: who is at the other end, what it subscribes to, and what it is sent next.

Free of I/O: the server feeds it requests, asks it for responses, and waits on `wake`. It holds no queue of messages,
only names that may have changed, so a slow client costs a set of names and finds the latest state when it reads on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from controlplane.clock import Clock
from controlplane.discovery.ack_times import AckTimes
from controlplane.discovery.delta import DeltaSubscription
from controlplane.discovery.messages import (
    DeltaRequest,
    InvalidRequestError,
    Node,
    Response,
    SotwRequest,
    Variant,
)
from controlplane.discovery.sotw import SotwSubscription
from controlplane.discovery.stages import Stages
from controlplane.discovery.subscription import Reaction, Subscription
from controlplane.domain import EnvoyStatus, Rejection, TypeStatus
from controlplane.translate.resource import TypeUrl
from controlplane.translate.snapshot import Key, Snapshot


@dataclass(slots=True)
class _Count:
    responses: int = 0
    resources: int = 0


class Session:
    """State of one stream; its methods are called on the hub's loop only."""

    def __init__(
        self,
        variant: Variant,
        snapshot: Snapshot,
        clock: Clock,
        *,
        nonce_prefix: str = "",
        only_type: str | None = None,
        on_change: Callable[[Session], None] = lambda _: None,
        on_work: Callable[[], None] = lambda: None,
    ) -> None:
        """`only_type` is the type of a stream that carries one; `on_work` is called when there may be something to send."""
        self.variant = variant
        self.only_type = only_type
        self.node: Node | None = None
        self.since_ms = clock.now_ms()
        #: The process at the other end is known to be dead; the stream will break.
        self.dead = False
        self.ending = False
        self.requests_received = 0
        self.responses_sent = 0
        self.last_rejection: Rejection | None = None
        self.ack_times = AckTimes(clock)
        self._clock = clock
        self._snapshot = snapshot
        self._nonce_prefix = nonce_prefix
        self._seq = 0
        self._subscriptions: dict[str, Subscription] = {}
        self._stages = Stages(self._subscriptions)
        self._counts: dict[str, _Count] = {}
        #: By what was refused, and its version.
        self._rejections: dict[Key, dict[str, Rejection]] = {}
        self._on_change = on_change
        self.on_work = on_work

    @property
    def is_envoy(self) -> bool:
        """Whether this is an Envoy, which is expected to want everything; other clients want what they ask for."""
        return self.node is not None and self.node.agent == "envoy"

    @property
    def node_id(self) -> str:
        """The client's name for itself, "" before its first request."""
        return self.node.id if self.node else ""

    @property
    def has_work(self) -> bool:
        """Whether anything might be sent now."""
        return any(subscription.has_work for subscription in self._subscriptions.values())

    @property
    def unanswered(self) -> int:
        """Responses that the client has neither acknowledged nor refused."""
        return sum(len(subscription.in_flight) for subscription in self._subscriptions.values())

    def subscription(self, type_url: str) -> Subscription | None:
        """What the client wants of one type, None before it has asked for any."""
        return self._subscriptions.get(type_url)

    def receive(self, request: DeltaRequest | SotwRequest) -> None:
        """Take one request; raises InvalidRequestError when it breaks the protocol."""
        self.requests_received += 1
        self.dead = False
        self._identify(request.node)
        type_url = self._type_of(request)
        if isinstance(request, DeltaRequest):
            reaction = self._receive_delta(type_url, request)
        else:
            reaction = self._receive_sotw(type_url, request)
        self._stages.react(type_url, reaction)
        self._note(type_url, reaction)
        self._on_change(self)
        if self.has_work:
            self.on_work()

    def publish(self, snapshot: Snapshot, changed: Iterable[Key]) -> None:
        """The client is to have `snapshot`, which differs from the last one in `changed`."""
        self._snapshot = snapshot
        for type_url, name in changed:
            subscription = self._subscriptions.get(type_url)
            if subscription is not None:
                subscription.touch(name)
        if self.has_work:
            self.on_work()

    def next_response(self) -> Response | None:
        """What to send now, None when there is nothing; the caller sends it before anything else."""
        draft = self._stages.draft(self._snapshot)
        if draft is None:
            return None
        self._seq += 1
        nonce = f"{self._nonce_prefix}{self._seq}"
        subscription = self._subscriptions[draft.type_url]
        resources, removed = subscription.record(draft.puts, draft.removed, nonce, self._seq, self._snapshot.generation)
        self._stages.sent(draft, self._seq)
        count = self._counts.setdefault(draft.type_url, _Count())
        count.responses += 1
        count.resources += len(resources)
        self.responses_sent += 1
        self.ack_times.sent(self._seq)
        return Response(draft.type_url, str(self._snapshot.generation), nonce, resources, removed)

    def end(self) -> None:
        """Ask whoever serves the stream to end it."""
        self.ending = True
        self.on_work()

    def rejection(self, key: Key, version: str) -> Rejection | None:
        """The client's refusal of exactly that version, if it refused it."""
        return self._rejections.get(key, {}).get(version)

    def rejections(self) -> list[Rejection]:
        """What it refuses of the present snapshot, by type and name."""
        present = []
        for key, rejections in sorted(self._rejections.items()):
            resource = self._snapshot.get(key)
            if resource is not None and resource.version in rejections:
                present.append(rejections[resource.version])
        return present

    def missing(self, key: Key) -> frozenset[str]:
        """The clusters that `key` is held back for."""
        return self._stages.missing(key)

    def status(self, *, connected: bool, since_ms: int) -> EnvoyStatus:
        """The session for people."""
        node = self.node or Node("")
        types = tuple(self._type_status(type_url) for type_url in tuple(self._subscriptions))
        return EnvoyStatus(
            node.id, node.cluster, node.version, node.agent, connected, since_ms, types, self.last_rejection
        )

    def _identify(self, node: Node | None) -> None:
        if self.node is not None:
            return  # only the first request is sure to say it, and it does not change
        if node is None or not node.id:
            raise InvalidRequestError("the first request of a stream must say the node's id")
        self.node = node
        self._stages.expects_clusters = self.is_envoy and self.only_type is None

    def _type_of(self, request: DeltaRequest | SotwRequest) -> str:
        if self.only_type is None:
            if not request.type_url:
                raise InvalidRequestError("an aggregated request must say its type_url")
            return request.type_url
        if request.type_url not in {"", self.only_type}:
            raise InvalidRequestError(f"this service is for {self.only_type}, not for {request.type_url}")
        return self.only_type

    def _receive_delta(self, type_url: str, request: DeltaRequest) -> Reaction:
        have = self._snapshot.of(type_url)
        subscription = self._subscriptions.get(type_url)
        if isinstance(subscription, DeltaSubscription):
            return subscription.on_request(request, have)
        due = self._stages.endpoints_due(request.subscribe) if type_url == TypeUrl.ENDPOINTS else ()
        self._subscriptions[type_url] = subscription = DeltaSubscription(type_url)
        reaction = subscription.on_request(request, have, due)
        self._stages.brought(type_url, request.initial, have)
        return reaction

    def _receive_sotw(self, type_url: str, request: SotwRequest) -> Reaction:
        have = self._snapshot.of(type_url)
        subscription = self._subscriptions.get(type_url)
        if isinstance(subscription, SotwSubscription):
            return subscription.on_request(request, have)
        self._subscriptions[type_url] = subscription = SotwSubscription(type_url)
        reaction = subscription.on_request(request, have)
        if request.version:
            # From an earlier stream, in versions that this variant does not tell.
            self._stages.resumed()
            self._stages.brought(type_url, dict.fromkeys(request.names, ""), have)
        return reaction

    def _note(self, type_url: str, reaction: Reaction) -> None:
        for name in reaction.forgotten:
            self._rejections.pop((type_url, name), None)
        for settled in reaction.settled:
            self.ack_times.answered(type_url, settled.seq, refused=settled.message is not None)
            for name, version in settled.acked.items() if self._rejections else ():
                if version is not None:
                    self._rejections.get((type_url, name), {}).pop(version, None)
            if settled.message is None:
                continue
            at_ms = self._clock.now_ms()
            for name, version in settled.rejected.items():
                rejection = Rejection(self.node_id, type_url, name, version, settled.message, at_ms)
                self._rejections.setdefault((type_url, name), {})[version] = self.last_rejection = rejection
            if not settled.rejected:
                self.last_rejection = Rejection(self.node_id, type_url, "", "", settled.message, at_ms)

    def _type_status(self, type_url: str) -> TypeStatus:
        subscription = self._subscriptions[type_url]
        count = self._counts.get(type_url, _Count())
        return TypeStatus(
            type_url,
            len(subscription.acked),
            subscription.generation,
            len(subscription.in_flight),
            self._stages.held(type_url),
            count.responses,
            count.resources,
        )
