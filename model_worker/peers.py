"""The control planes that speak to a host: they come and go, and all of them hear the same."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from model_worker import protocol
from model_worker.protocol import Command, ProtocolError

_logger = logging.getLogger(__name__)

#: A peer that reads this little of what it is told is gone in all but name.
_MAX_UNREAD = 64 * 1024 * 1024


class Peers:
    """Listens for control planes, greets each, passes on what it says, and tells all of them what happens."""

    def __init__(
        self, listen: str, greeting: Callable[[], bytes], obey: Callable[[Command, asyncio.StreamWriter], None]
    ) -> None:
        """`listen`: `unix:/path` or `host:port`."""
        self._listen = listen
        self._greeting = greeting
        self._obey = obey
        self._server: asyncio.Server | None = None
        self._peers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen."""
        if self._listen.startswith("unix:"):
            path = self._listen.removeprefix("unix:")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            self._server = await asyncio.start_unix_server(self._serve, path, limit=protocol.MAX_LINE)
            os.chmod(path, 0o600)
        else:
            host, _, port = self._listen.rpartition(":")
            self._server = await asyncio.start_server(self._serve, host, int(port), limit=protocol.MAX_LINE)

    def accept_no_more(self) -> None:
        """Let nobody new in."""
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """Hang up, and leave no socket behind."""
        for peer in self._peers:
            peer.close()
        if self._listen.startswith("unix:"):
            Path(self._listen.removeprefix("unix:")).unlink(missing_ok=True)

    def tell(self, message: Mapping[str, object]) -> None:
        """Say it to everybody."""
        line = protocol.line(message)
        for peer in self._peers:
            peer.write(line)
            if peer.transport.get_write_buffer_size() > _MAX_UNREAD:
                peer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._greeting())
        self._peers.add(writer)
        try:
            while line := await reader.readline():
                try:
                    self._obey(protocol.parse_command(line), writer)
                except ProtocolError as error:
                    _logger.warning("%s", error)
                    writer.write(protocol.line({"type": "error", "message": str(error)}))
        except (ConnectionError, ValueError):
            pass  # it broke off, or sent a line without end; replicas do not mind
        finally:
            self._peers.discard(writer)
            writer.close()
