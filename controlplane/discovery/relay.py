"""Streams of Envoys that reach a control plane which stands by: passed on, byte for byte, to the one that acts.

So it does not matter which of them an Envoy is connected to. The acting one has every Envoy's acknowledgements and load
reports, and sends each what it sends to its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio

from controlplane.domain import Address

#: One that hangs is noticed within so many milliseconds of its last sign of life, twice.
_KEEPALIVE_MS = 3000
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Else streams to one address would share a connection that another leader has left behind.
    ("grpc.use_local_subchannel_pool", 1),
)

#: Missing in the type stubs.
_EOF: object = cast("Any", grpc.aio).EOF

Context = grpc.aio.ServicerContext[Any, Any]
#: Where a stream is to be served: None is here. Waits until somebody acts.
Choose = Callable[[], Awaitable[Address | None]]
#: Returns when what `Choose` said is no longer so.
Changed = Callable[[Address], Awaitable[None]]


if TYPE_CHECKING:
    _Handler = grpc.GenericRpcHandler[bytes, bytes]
else:
    _Handler = grpc.GenericRpcHandler


class Relay(_Handler):
    """The services of `handlers`, here or at whoever acts, as it is chosen when a stream begins."""

    def __init__(self, handlers: Iterable[_Handler], choose: Choose, changed: Changed) -> None:
        self._handlers = tuple(handlers)
        self._choose = choose
        self._changed = changed

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """The handler of a method, None for one that there is not."""
        found = (handler.service(details) for handler in self._handlers)
        here = next((each for each in found if each is not None), None)
        if here is None:
            return None
        serve = cast("Any", here).stream_stream

        async def stream(requests: AsyncIterator[bytes], context: Context) -> None:
            there = await self._choose()
            if there is None:
                await serve(requests, context)
            else:
                await self._pass_on(details.method, there, requests, context)

        return grpc.stream_stream_rpc_method_handler(cast("Any", stream))

    async def _pass_on(self, method: str, there: Address, requests: AsyncIterator[bytes], context: Context) -> None:
        target = f"unix:{there.path}" if there.path else f"{there.host}:{there.port}"
        async with grpc.aio.insecure_channel(target, options=_OPTIONS) as channel:
            call = cast("Any", channel).stream_stream(method)()

            async def up() -> None:
                async for data in requests:
                    await call.write(data)

            async def down() -> None:
                while (data := await call.read()) is not _EOF:
                    await context.write(data)

            parts = [asyncio.ensure_future(part) for part in (up(), down(), self._changed(there))]
            try:
                await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for part in parts:
                    part.cancel()
                await asyncio.gather(*parts, return_exceptions=True)
                call.cancel()
        await context.abort(grpc.StatusCode.UNAVAILABLE, f"the control plane that acts, at {there}, ended the stream")
