"""A steady load over keep-alive connections that never retries and remembers every failure."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Tally:
    """What came back: answers by served model, failures in words, and how many requests were answered in all."""

    models: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    answered: int = 0
    #: (seconds since the load began, served model) of the latest answer of each model
    last_seen: dict[str, float] = field(default_factory=dict)

    def share(self, model: str) -> float:
        """The part of all answers that came from one served model."""
        return self.models[model] / max(1, self.answered)


class Load:
    """POSTs one body to one path of a Wye, from several connections, one request at a time on each."""

    def __init__(self, url: str, path: str, token: str, body: bytes, connections: int = 8) -> None:
        where = urlsplit(url)
        self._host, self._port = where.hostname or "", where.port or 80
        self._request = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._connections = connections
        self.tally = Tally()
        self._began = time.monotonic()

    async def requests(self, count: int) -> Tally:
        """Send exactly `count` requests and return what came of them."""
        left = iter(range(count))
        await asyncio.gather(*(self._connection(left) for _ in range(self._connections)))
        return self.tally

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Tally]:
        """Send requests for as long as the block lasts; each that was begun is finished."""
        stop = asyncio.Event()
        tasks = [
            asyncio.create_task(self._connection(iter(lambda: not stop.is_set(), False)))
            for _ in range(self._connections)
        ]
        try:
            yield self.tally
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def answers(self, more: int, within: float = 30.0) -> None:
        """Return when `more` further requests have been answered."""
        target, deadline = self.tally.answered + more, time.monotonic() + within
        while self.tally.answered < target:
            assert time.monotonic() < deadline, f"no {more} further answers within {within} s: {self.tally}"
            await asyncio.sleep(0.005)

    async def _connection(self, turns: object) -> None:
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        for _ in turns:  # type: ignore[attr-defined]
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection(self._host, self._port)
                writer.write(self._request)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
                lines = head.decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self._note(int(lines[0].split()[1]), headers, body)
                if headers.get("connection") == "close":
                    writer.close()
                    reader = writer = None
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.tally.failures.append(f"{time.monotonic() - self._began:.3f} s: {error!r}")
                if writer:
                    writer.close()
                reader = writer = None
                await asyncio.sleep(0.01)
        if writer:
            writer.close()

    def _note(self, status: int, headers: dict[str, str], body: bytes) -> None:
        now = time.monotonic() - self._began
        if status == 200:
            model = headers.get("served-model-name", "")
            self.tally.models[model] += 1
            self.tally.last_seen[model] = now
            self.tally.answered += 1
        else:
            self.tally.failures.append(f"{now:.3f} s: {status} {body[:300]!r}")
