"""The gRPC face of the hub: every xDS service of the v3 API, ADS and separate, delta and state of the world."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio

from controlplane.discovery.hub import Hub
from controlplane.discovery.messages import InvalidRequestError, Variant
from controlplane.discovery.services import METHODS, Method
from controlplane.discovery.session import Session
from controlplane.discovery.wire import encode, parse_delta, parse_sotw
from controlplane.domain import Address

#: Without the ping options a default server answers Envoy's keep-alive pings with GOAWAY and so ends its stream.
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30000),
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", -1),
)

Context = grpc.aio.ServicerContext[Any, Any]


class _Ended(Exception):  # noqa: N818 - not an error: the server asked the stream to end
    """The session was told to end."""


class Server:
    """A listening xDS server."""

    def __init__(self, hub: Hub, server: grpc.aio.Server, address: Address) -> None:
        self._hub = hub
        self._server = server
        self._address = address

    @property
    def address(self) -> Address:
        """Where it listens, with the port that was chosen when 0 was asked for."""
        return self._address

    async def stop(self, grace: float = 1.0) -> None:
        """End every stream and stop listening; Envoys keep what they have and try again elsewhere or later."""
        for session in self._hub.sessions:
            session.end()
        await self._server.stop(grace)


Handlers: TypeAlias = "Sequence[grpc.GenericRpcHandler[bytes, bytes]]"


def _as_they_are(handlers: Handlers) -> Handlers:
    return handlers


async def serve(
    hub: Hub, address: Address, others: Handlers = (), around: Callable[[Handlers], Handlers] = _as_they_are
) -> Server:
    """A server that is listening when this returns; raises OSError when it cannot.

    `others` are services that share the port, such as load reporting; `around` may put something before all of them.
    """
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers(tuple(around((*_handlers(hub), *others))))
    target = f"unix:{address.path}" if address.path else f"{address.host}:{address.port}"
    try:
        port = server.add_insecure_port(target)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error
    await server.start()
    if address.path:
        # Whoever can write to the socket reads every route and every key.
        os.chmod(address.path, 0o600)
        return Server(hub, server, address)
    return Server(hub, server, Address(host=address.host, port=port))


def _handlers(hub: Hub) -> list[grpc.GenericRpcHandler[bytes, bytes]]:
    services: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = defaultdict(dict)
    for method in METHODS:
        # No (de)serialiser: bytes in, bytes out.
        services[method.service][method.name] = grpc.stream_stream_rpc_method_handler(_behaviour(hub, method))
    return [grpc.method_handlers_generic_handler(service, methods) for service, methods in services.items()]


def _behaviour(hub: Hub, method: Method) -> Callable[[AsyncIterator[bytes], Context], Awaitable[None]]:
    async def stream(requests: AsyncIterator[bytes], context: Context) -> None:
        await _serve_stream(hub, method, requests, context)

    return stream


async def _serve_stream(hub: Hub, method: Method, requests: AsyncIterator[bytes], context: Context) -> None:
    """Serve one stream from its first request until either side ends it."""
    work = asyncio.Event()
    session = hub.open(method.variant, method.only_type, work.set)
    refusal = ""
    try:
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(_write(session, hub.epoch.encode(), work, context), name="xds-writer")
            await _read(session, requests)
            writer.cancel()
    except* _Ended:
        pass
    except* InvalidRequestError as group:
        refusal = str(group.exceptions[0])
    finally:
        hub.close(session)
    if refusal:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, refusal)


async def _read(session: Session, requests: AsyncIterator[bytes]) -> None:
    parse = parse_delta if session.variant is Variant.DELTA else parse_sotw
    async for data in requests:
        session.receive(parse(data))


async def _write(session: Session, identifier: bytes, work: asyncio.Event, context: Context) -> None:
    while True:
        await work.wait()
        work.clear()
        # The next response is made when the last one has left, so it says the latest there is to say.
        while not session.ending and (response := session.next_response()) is not None:
            await context.write(encode(session.variant, response, identifier))
        if session.ending:
            raise _Ended
