"""A client that behaves like Envoy, over a real gRPC stream, and a way to wait until nothing is under way.

For tests of everything that publishes to a hub or waits for acknowledgements.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Protocol, Self, cast

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2

from controlplane.discovery.envoy_model import EnvoyModel, Received, Refusal, Request, accept, name_of
from controlplane.discovery.hub import Hub
from controlplane.discovery.messages import DeltaRequest, Node, Variant
from controlplane.discovery.services import method
from controlplane.discovery.wire import CLASSES, message_classes
from controlplane.domain import Address
from controlplane.translate.resource import Resource, field_bytes

_FIELD = descriptor_pb2.FieldDescriptorProto
_STRING, _ONE, _MANY = _FIELD.TYPE_STRING, _FIELD.LABEL_OPTIONAL, _FIELD.LABEL_REPEATED
_RESPONSES = message_classes(
    "wye.testing",
    {
        "Any": {"type_url": (1, _STRING, _ONE), "value": (2, _FIELD.TYPE_BYTES, _ONE)},
        "Resource": {"version": (1, _STRING, _ONE), "resource": (2, "Any", _ONE), "name": (3, _STRING, _ONE)},
        "DiscoveryResponse": {
            "version": (1, _STRING, _ONE),
            "resources": (2, "Any", _MANY),
            "type_url": (4, _STRING, _ONE),
            "nonce": (5, _STRING, _ONE),
        },
        "DeltaDiscoveryResponse": {
            "version": (1, _STRING, _ONE),
            "resources": (2, "Resource", _MANY),
            "type_url": (4, _STRING, _ONE),
            "nonce": (5, _STRING, _ONE),
            "removed": (6, _STRING, _MANY),
        },
    },
)

#: Seconds after which something that should happen is held not to.
PATIENCE = 60.0


class _Message(Protocol):
    type_url: str
    version: str
    nonce: str
    resources: Any
    removed: Any


def parse_response(variant: Variant, data: bytes) -> Received:
    """A response from its bytes."""
    kind = "DeltaDiscoveryResponse" if variant is Variant.DELTA else "DiscoveryResponse"
    message = cast("_Message", _RESPONSES[kind].FromString(data))
    if variant is Variant.DELTA:
        resources = tuple(
            Resource.of(entry.resource.type_url, entry.name, entry.resource.value, version=entry.version)
            for entry in message.resources
        )
        return Received(message.type_url, message.version, message.nonce, resources, tuple(message.removed))
    resources = tuple(Resource.of(entry.type_url, name_of(entry.value), entry.value) for entry in message.resources)
    return Received(message.type_url, message.version, message.nonce, resources)


def encode_request(request: Request) -> bytes:
    """A request as bytes."""
    fields: dict[str, Any] = {"type_url": request.type_url, "nonce": request.nonce}
    if request.node is not None:
        fields["node"] = CLASSES["Node"](
            id=request.node.id,
            cluster=request.node.cluster,
            agent=request.node.agent,
            agent_version=request.node.version,
        )
    if request.error is not None:
        fields["error"] = CLASSES["Status"](code=13, message=request.error)
    if isinstance(request, DeltaRequest):
        initial = [CLASSES["Version"](key=key, value=value) for key, value in request.initial.items()]
        message = CLASSES["DeltaDiscoveryRequest"](
            subscribe=request.subscribe, unsubscribe=request.unsubscribe, initial=initial, **fields
        )
    else:
        message = CLASSES["DiscoveryRequest"](names=request.names, version=request.version, **fields)
    return message.SerializeToString()


class FakeEnvoy:
    """An xDS client: `async with FakeEnvoy(address) as envoy`. Acknowledges by itself what `refusal` does not refuse."""

    def __init__(
        self,
        address: Address,
        node_id: str = "envoy-1",
        *,
        variant: Variant = Variant.DELTA,
        only_type: str | None = None,
        agent: str = "envoy",
        follows: bool = False,
        refusal: Refusal = accept,
    ) -> None:
        """`follows`: ask for clusters, listeners, scopes and what follows from them as Envoy does."""
        self.model = EnvoyModel(variant, Node(node_id, "gateway", agent, "1.40.0"), follows, refusal)
        self.requests_sent = 0
        self.responses_received = 0
        #: How the server ended the stream, None while it is open.
        self.ended: grpc.StatusCode | None = None
        self._address = address
        self._method = method(variant, only_type)
        self._channel: grpc.aio.Channel | None = None
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        #: Called after each response and at the stream's end.
        self.listeners: set[Callable[[], None]] = set()

    @property
    def node_id(self) -> str:
        """What it calls itself."""
        return self.model.node.id

    @property
    def received(self) -> list[Received]:
        """Every response, in order."""
        return self.model.received

    def versions(self, type_url: str) -> dict[str, str]:
        """Name -> version of what it has of one type."""
        return self.model.versions(type_url)

    async def connect(self) -> None:
        """Open a stream, and ask for what it asked for on the last one."""
        target = f"unix:{self._address.path}" if self._address.path else str(self._address)
        self._channel = grpc.aio.insecure_channel(target, options=(("grpc.max_receive_message_length", -1),))
        open_stream: Any = self._channel.stream_stream  # the stubs want serialisers and an iterator
        self._call = open_stream(self._method.path)()
        self.requests_sent = self.responses_received = 0
        self.ended = None
        self._reader = asyncio.create_task(self._read(self._call), name=f"fake-{self.node_id}")
        await self.send(*self.model.start())

    async def disconnect(self) -> None:
        """Break the stream, keeping what it has."""
        if self._reader is not None and self._channel is not None:
            self._call.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            await self._channel.close(None)
            self._reader = self._channel = None
            self.ended = grpc.StatusCode.CANCELLED

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def send(self, *requests: Request) -> None:
        """Send these requests as they are."""
        self.requests_sent += len(requests)
        async with self._writing:  # a stream takes one write at a time, and the reader answers while a test asks
            for request in requests:
                await self._call.write(encode_request(request))

    async def subscribe(self, type_url: str, *names: str, unsubscribe: Iterable[str] = ()) -> None:
        """Ask for these names (state of the world: and no others)."""
        await self.send(*self.model.subscribe(type_url, names, unsubscribe))

    async def answer(self, *types: str) -> None:
        """Answer what `model.mute` has kept back."""
        await self.send(*self.model.answer(*types))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds, tested after each response and at the stream's end; raises TimeoutError."""
        activity = asyncio.Event()
        self.listeners.add(activity.set)
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    await activity.wait()
                    activity.clear()
        finally:
            self.listeners.discard(activity.set)

    async def _read(self, call: Any) -> None:
        try:
            async for data in call:
                self.responses_received += 1
                await self.send(*self.model.receive(parse_response(self.model.variant, data)))
                self._tell()
        except grpc.aio.AioRpcError:
            pass
        self.ended = await call.code()
        self._tell()

    def _tell(self) -> None:
        for listener in tuple(self.listeners):
            listener()


async def quiesce(hub: Hub, *envoys: FakeEnvoy) -> None:
    """Return when nothing is under way between the hub and these clients, who must be all that are connected to it.

    Exact, not a guess: all that either side has sent has been taken by the other, and the hub has nothing to send.
    Raises TimeoutError when that does not come to be.
    """
    activity = asyncio.Event()
    changes = hub.subscribe()
    for envoy in envoys:
        envoy.listeners.add(activity.set)
    try:
        async with asyncio.timeout(PATIENCE):
            while not _is_quiet(hub, envoys):
                activity.clear()
                changes.take()
                # What the hub is about to send takes a turn of this loop; all else is told by either side.
                if any(session.has_work for session in hub.sessions):
                    await asyncio.sleep(0)
                else:
                    await _either(changes.wait(), activity.wait())
    finally:
        changes.close()
        for envoy in envoys:
            envoy.listeners.discard(activity.set)


async def _either(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_quiet(hub: Hub, envoys: Iterable[FakeEnvoy]) -> bool:
    here: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    there: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for envoy in envoys:
        streams, requests, responses = here[envoy.node_id]
        here[envoy.node_id] = streams + 1, requests + envoy.requests_sent, responses + envoy.responses_received
    for session in hub.sessions:
        if session.has_work:
            return False
        streams, requests, responses = there[session.node_id]
        there[session.node_id] = (
            streams + 1,
            requests + session.requests_received,
            responses + session.responses_sent,
        )
    # A stream that has said nothing yet has no name; it counts as neither.
    there.pop("", None)
    return {node: counts for node, counts in here.items() if counts[1]} == dict(there)


def resource(type_url: str, name: str, content: str = "", refs: Iterable[str] = (), routes: str = "") -> Resource:
    """A resource with this name whose bytes, hence version, depend on `content`; for clients that do not read more."""
    body = field_bytes(1, name.encode()) + field_bytes(2, routes.encode()) + field_bytes(15, content.encode())
    return Resource.of(type_url, name, body, frozenset(refs))
