"""A keep-alive HTTP/1.1 connection with as little of a client in it as possible, over TCP or a Unix socket."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One connection; one request at a time. Raises OSError when it breaks: nothing is retried."""

    def __init__(
        self, where: str | Path, token: str = "", timeout: float = 60.0, headers: Mapping[str, str] | None = None
    ) -> None:
        self._where = where
        self._headers = dict(headers or {}) | ({"authorization": f"Bearer {token}"} if token else {})
        if isinstance(where, Path):
            self._host = "localhost"
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            self._socket.connect(str(where))
        else:
            url = urlsplit(where)
            self._host = url.netloc
            self._socket = socket.create_connection((url.hostname, url.port), timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def prepare(self, method: str, path: str, body: bytes = b"") -> bytes:
        """A request as bytes, to be sent many times."""
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._host}", f"content-length: {len(body)}"]
        lines += ["content-type: application/json"] if body else []
        lines += [f"{name}: {value}" for name, value in self._headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def send(self, prepared: bytes) -> Answer:
        self._socket.sendall(prepared)
        return self._read()

    def get(self, path: str) -> Answer:
        return self.send(self.prepare("GET", path))

    def put(self, path: str, document: object) -> Answer:
        return self.send(self.prepare("PUT", path, json.dumps(document).encode()))

    def post(self, path: str, document: object) -> Answer:
        return self.send(self.prepare("POST", path, json.dumps(document).encode()))

    def _read(self) -> Answer:
        data = self._left
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        lines = data[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        data = data[end + 4 :]
        if "chunked" in headers.get("transfer-encoding", ""):
            body, data = self._chunks(data)
        else:
            length = int(headers.get("content-length", 0))
            while len(data) < length:
                data += self._more()
            body, data = data[:length], data[length:]
        self._left = data
        return Answer(int(lines[0].split()[1]), headers, body)

    def _chunks(self, data: bytes) -> tuple[bytes, bytes]:
        body = b""
        while True:
            while (end := data.find(b"\r\n")) < 0:
                data += self._more()
            size = int(data[:end], 16)
            while len(data) < end + 2 + size + 2:
                data += self._more()
            body += data[end + 2 : end + 2 + size]
            data = data[end + 2 + size + 2 :]
            if size == 0:
                return body, data

    def _more(self) -> bytes:
        chunk = self._socket.recv(1 << 16)
        if not chunk:
            raise ConnectionResetError(f"{self._where} closed the connection")
        return chunk


def settled(connection: Connection, endpoint: str, timeout: float = 60.0) -> dict[str, Any]:
    """The endpoint once no update is in progress."""
    request = connection.prepare("GET", f"/api/2.0/serving-endpoints/{endpoint}")
    deadline = time.monotonic() + timeout
    while True:
        answer = connection.send(request)
        assert answer.status == 200, answer
        document: dict[str, Any] = answer.json()
        if document["state"]["config_update"] != "IN_PROGRESS":
            return document
        assert time.monotonic() < deadline, f"still being updated after {timeout} s: {document}"
        time.sleep(0.001)
