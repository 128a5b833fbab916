"""The server on real sockets: it listens when it says so, keeps connections, and ends without losing an answer."""

from __future__ import annotations

import resource
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from flask import Flask

from controlplane.api import Server, serve
from controlplane.api.server import most_connections
from controlplane.domain import Address
from tests.controlplane.api.harness import PATH, Api


@pytest.fixture
def server(api: Api) -> Iterator[Server]:
    """The API on a free port."""
    opened = serve(api.app, Address(host="127.0.0.1", port=0), threads=2)
    yield opened
    opened.close()


def test_a_port_is_served_when_serve_returns(server: Server) -> None:
    """The address has the port that was free, and answers at once, many times on one connection."""
    assert server.address.port > 0
    with httpx.Client(base_url=f"http://{server.address}") as client:
        answers = [client.get("/api/2.0/wye/health") for _ in range(3)]
        ports = {answer.extensions["network_stream"].get_extra_info("client_addr") for answer in answers}
    assert [answer.json() for answer in answers] == [{"status": "ok"}] * 3
    assert len(ports) == 1


def test_a_unix_socket_is_for_its_owner(api: Api, tmp_path: Path) -> None:
    """A socket's path is served, over what a dead process left there, and nobody else may use it."""
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server = serve(api.app, Address(path=str(path)))
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://wye") as client:
        assert client.get("/api/2.0/wye/health").json() == {"status": "ok"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    server.close()


@pytest.mark.parametrize(
    ("files", "connections"), [(64, 1), (1024, 824), (1 << 20, 1000), (resource.RLIM_INFINITY, 1000)]
)
def test_connections_leave_files_for_everything_else(files: int, connections: int) -> None:
    """However few there may be."""
    assert most_connections(files) == connections


def test_an_address_in_use_is_an_error(server: Server, api: Api) -> None:
    """Where somebody listens already, serve raises instead of returning."""
    with pytest.raises(OSError, match="in use"):
        serve(api.app, server.address)


def test_close_waits_for_the_requests_in_hand() -> None:
    """A request that is being handled gets its answer; idle connections and later ones do not hold the end up."""
    app = Flask("test")
    arrived, go_on = threading.Event(), threading.Event()

    @app.get("/slow")
    def slow() -> str:
        arrived.set()
        go_on.wait()
        return "done" * 100_000

    server = serve(app, Address(host="127.0.0.1", port=0))
    url = f"http://{server.address}"
    answers: list[str] = []
    with httpx.Client(base_url=url, timeout=60) as idle:
        idle.get("/nothing")
        request = threading.Thread(target=lambda: answers.append(httpx.get(f"{url}/slow", timeout=60).text))
        request.start()
        arrived.wait()
        closing = threading.Thread(target=server.close)
        closing.start()
        go_on.set()
        request.join()
        closing.join()
        assert answers == ["done" * 100_000]
        with pytest.raises(httpx.TransportError):
            idle.get("/nothing")


def test_what_the_server_refuses_itself_is_json(server: Server) -> None:
    """Broken HTTP and far too large bodies never reach the application, and are answered in the same shape."""
    with socket.create_connection((server.address.host, server.address.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"application/json" in head.lower()
    assert body.startswith(b'{"error_code":"BAD_REQUEST","message":"')
    with socket.create_connection((server.address.host, server.address.port)) as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert b" 413 " in answer.splitlines()[0]
    assert b'"error_code":"BAD_REQUEST"' in answer
