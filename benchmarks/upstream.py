"""The smallest upstream there can be in Python: answers every request with the same few bytes (25,000 a second and core).

`python -m benchmarks.upstream <unix socket>`.
"""

from __future__ import annotations

import asyncio
import os
import sys

import uvloop

_BODY = b'{"predictions": [1.0]}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


class _Answering(asyncio.Protocol):
    def __init__(self) -> None:
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            length = 0
            at = self._data.find(b"content-length: ", 0, end)
            if at >= 0:
                length = int(self._data[at + 16 : self._data.find(b"\r\n", at)])
            if len(self._data) < end + 4 + length:
                return
            self._data = self._data[end + 4 + length :]
            self._transport.write(_ANSWER)  # type: ignore[attr-defined]


async def _main(path: str) -> None:
    server = await asyncio.get_running_loop().create_unix_server(_Answering, path + ".new")
    os.rename(path + ".new", path)  # whoever sees the socket can connect
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1]))
