"""The clients: each waits for an answer, then sends the next request, and never tries one again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.e2e.wye import Wye

#: Requests on each connection begin so many seconds after the answer to the one before.
PAUSE = 0.02


async def ask(
    wye: Wye, name: str, body: bytes, stop: asyncio.Event, answered: Callable[[float, float, str], None]
) -> None:
    """Send one request after the other until `stop`, none of them again; `answered` gets begin, end and what was wrong."""
    where = urlsplit(wye.url)
    request = (
        f"POST /serving-endpoints/{name}/invocations HTTP/1.1\r\nHost: wye\r\n"
        f"Authorization: Bearer {wye.token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while not stop.is_set():
        began = time.monotonic()
        words = ""
        try:
            streams = streams or await asyncio.open_connection(where.hostname, where.port)
            words = await asyncio.wait_for(exchange(*streams, request), 60)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            words = repr(error)
            if streams:
                streams[1].close()
            streams = None
        answered(began, time.monotonic(), words)
        await asyncio.sleep(PAUSE)
    if streams:
        streams[1].close()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> str:
    """ "" when the answer is 200, else the answer."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    status = lines[0].split()[1]
    return "" if status == "200" else f"{status} {_message(body)}"


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        return body[:300].decode(errors="replace")
