"""Envoy's connection to the control plane, which can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path


class Wire:
    """Envoy's connection to the control plane, through our hands so that it can be cut."""

    def __init__(self, front: Path, back: Path) -> None:
        self._front, self._back = front, back
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, str(self._front))
        try:
            yield
        finally:
            server.close()
            self.cut()
            self._front.unlink(missing_ok=True)

    def cut(self) -> int:
        """End all connections; how many there were."""
        count = len(self._open) // 2
        for writer in self._open:
            writer.transport.abort()
        return count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind, ahead = await asyncio.open_unix_connection(str(self._back))
        except OSError:
            writer.close()
            return
        pair = {writer, ahead}
        self._open |= pair
        try:
            await asyncio.gather(_pump(reader, ahead), _pump(behind, writer))
        finally:
            self._open -= pair
            for each in pair:
                each.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()
