"""An answer in pieces, as server-sent events: made in a thread, sent no faster than the client reads."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any, Protocol

from model_worker import codec
from model_worker.codec import InputError, OutputError
from model_worker.http.replies import NO_MORE, STREAM_HEAD, chunk
from model_worker.model import ModelError
from model_worker.service import problem

_END = object()


class Client(Protocol):
    """Who is sent the events."""

    @property
    def is_there(self) -> bool:
        """Whether the client still listens."""

    def write(self, data: bytes) -> None:
        """Send bytes, to nobody when the client is gone."""

    async def drained(self) -> None:
        """Return when the client has read enough to be sent more."""


async def send(pieces: Iterator[Any], client: Client, executor: Executor) -> bool:
    """Send each piece as an event, and close them; whether all was well, so that the connection can go on."""
    loop = asyncio.get_running_loop()
    well = True
    client.write(STREAM_HEAD)
    try:
        while client.is_there:
            event = await loop.run_in_executor(executor, _event, pieces)
            if event is None:
                client.write(chunk(b"data: [DONE]\n\n"))
                break
            client.write(chunk(event))
            await client.drained()
    except Exception as error:  # noqa: BLE001 - the model's; the head is written, so it is told as an event
        client.write(chunk(b"data: " + problem(400, "BAD_REQUEST", str(error)).body + b"\n\n"))
        well = False
    finally:
        await loop.run_in_executor(executor, close, pieces)
    client.write(NO_MORE)
    return well


def close(pieces: Iterator[Any]) -> None:
    """Have whatever makes the pieces end; in a thread, for it is the model's."""
    end = getattr(pieces, "close", None)
    if callable(end):
        try:
            end()
        except BaseException:  # noqa: BLE001 - a model may raise anything; nobody waits for more of it
            traceback.print_exc()


def _event(pieces: Iterator[Any]) -> bytes | None:
    try:
        piece = next(pieces, _END)
        return None if piece is _END else b"data: " + codec.encode(piece, wrapped=False) + b"\n\n"
    except (InputError, ModelError, OutputError):
        raise
    except BaseException as error:
        # A model may raise anything; the loop would take CancelledError and SystemExit for its own.
        raise ModelError(f"the model failed with {error!r}") from error
