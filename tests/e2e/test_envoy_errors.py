"""Every error that Envoy makes by itself, on a real Envoy: the status, the code, JSON, a request id, when to try again."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from controlplane.domain import Address
from tests.e2e.envoy_alone import EnvoyAlone, echo, request
from tests.e2e.wye import until

PREDICT = "/serving-endpoints/{}/invocations"


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that never answers."""
    await reader.read()


@pytest.fixture(scope="module")
def impatient(short_dir: Path) -> Iterator[EnvoyAlone]:
    """Envoy that gives a prediction one second: apart, for all else is to be told as well when the machine takes longer."""
    alone = EnvoyAlone(short_dir / "impatient", request_timeout=1.0)
    alone.endpoint("silent", alone.backend(short_dir / "impatient.sock", silent))
    alone.endpoint("nobody", Address(path=str(short_dir / "nobody.sock")))
    yield alone
    alone.close()


@pytest.fixture(scope="module")
def envoy(short_dir: Path) -> Iterator[EnvoyAlone]:
    """Envoy without tokens and with small limits, and an endpoint for each way to fail."""
    alone = EnvoyAlone(short_dir / "errors", max_requests=1, max_body=1000)

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)

    alone.endpoint("good", alone.backend(short_dir / "good.sock", echo))
    alone.endpoint("silent", alone.backend(short_dir / "silent.sock", silent))
    alone.endpoint("hangs-up", alone.backend(short_dir / "hangs-up.sock", hangs_up))
    alone.endpoint("empty")
    yield alone
    alone.close()


def told(answer: httpx.Response, status: int, code: str, *, again: bool = False) -> None:
    """The answer is this error, in the API's shape."""
    assert (answer.status_code, answer.json().get("error_code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.json()["message"]) > 20
    assert answer.json()["details"][0]["request_id"] == answer.headers["x-request-id"]
    assert ("retry-after" in answer.headers) == again


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PREDICT.format("unknown")),
        ("POST", "/serving-endpoints/good/served-models/unknown/invocations"),
        ("GET", PREDICT.format("good")),
        ("POST", "/serving-endpoints/good"),
        ("POST", PREDICT.format("good") + "/more"),
        ("POST", "/"),
        ("GET", "/a"),
        ("GET", "/ui/nothing"),
        ("GET", "/nothing/here?a=b"),
        ("POST", "/serving-endpoints//good///"),
    ],
)
def test_what_is_not_there_is_404(envoy: EnvoyAlone, method: str, path: str) -> None:
    """Unknown endpoints, served models, paths and methods."""
    told(envoy.client.request(method, path), 404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize("path", ["/", "/?a=b", "/ui", "/ui?a=b", "/ui/", "/ui/?a=b"])
def test_browsers_are_led_to_the_page(envoy: EnvoyAlone, path: str) -> None:
    """Paths that are too short for a scope of their own."""
    answer = envoy.client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/endpoints/")


def test_a_page_says_that_the_control_plane_is_away(envoy: EnvoyAlone) -> None:
    """As a page that tries again by itself; the API says it as JSON."""
    answer = envoy.client.get("/ui/endpoints/")
    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["refresh"] == "2"
    assert "does not answer" in answer.text


def test_a_path_that_hides_slashes_is_refused(envoy: EnvoyAlone) -> None:
    """What the scope is found by and what the route is matched with must be the same path."""
    answer = envoy.post("/serving-endpoints/good%2Finvocations")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")


def test_a_body_over_the_limit_is_413(envoy: EnvoyAlone) -> None:
    """A body of just the limit passes."""
    assert envoy.client.post(PREDICT.format("good"), content=b"x" * 1000).status_code == 200
    told(envoy.client.post(PREDICT.format("good"), content=b"x" * 1001), 413, "BAD_REQUEST")


def test_a_body_that_does_not_say_its_length_is_counted(envoy: EnvoyAlone) -> None:
    """Sent in chunks, it is refused as soon as it is too long."""
    head = f"POST {PREDICT.format('silent')} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", envoy.settings.port)) as connection:
        connection.sendall(head.encode() + b"".join(b"258\r\n%s\r\n" % (b"x" * 600) for _ in range(2)))
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_model_that_is_too_slow_is_504(impatient: EnvoyAlone) -> None:
    """After the time that a prediction may take."""
    told(impatient.post(PREDICT.format("silent")), 504, "DEADLINE_EXCEEDED")


def test_more_requests_than_a_model_may_have_are_429(envoy: EnvoyAlone, short_dir: Path) -> None:
    """Envoy's overload is told as what it is, with the time after which to try again."""
    asked, enough = threading.Event(), asyncio.Event()

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        asked.set()
        await enough.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async def answer() -> None:
        enough.set()

    envoy.endpoint("busy", envoy.backend(short_dir / "busy.sock", busy))
    with ThreadPoolExecutor(1) as other:
        first = other.submit(envoy.post, PREDICT.format("busy"))
        try:
            assert asked.wait(10)
            told(envoy.post(PREDICT.format("busy")), 429, "REQUEST_LIMIT_EXCEEDED", again=True)
        finally:
            envoy.run(answer())
        assert first.result().status_code == 200


@pytest.mark.parametrize("endpoint", ["empty", "hangs-up"])
def test_a_replica_that_is_not_there_is_503(envoy: EnvoyAlone, endpoint: str) -> None:
    """None listed, or one that goes away with the request; clients may try again."""
    told(envoy.post(PREDICT.format(endpoint)), 503, "TEMPORARILY_UNAVAILABLE", again=True)


def test_a_replica_that_does_not_listen_is_waited_for(
    envoy: EnvoyAlone, impatient: EnvoyAlone, short_dir: Path
) -> None:
    """Its host may be about to open its socket again: it is tried for seconds, or as long as a prediction may take."""
    began = time.monotonic()
    assert impatient.post(PREDICT.format("nobody")).status_code in {503, 504}
    assert time.monotonic() - began > 0.9

    def answer(number: int) -> int:
        """What a request gets that came before its replica listened."""
        late = Address(path=str(short_dir / f"late{number}.sock"))
        envoy.endpoint(f"late{number}", late)
        before = envoy.retries()
        with ThreadPoolExecutor(1) as other:
            waiting = other.submit(envoy.post, PREDICT.format(f"late{number}"))
            until(lambda: envoy.retries() > before)
            envoy.backend(Path(late.path), echo)
            return waiting.result().status_code

    # Where this process stands still for longer than Envoy tries, the socket opens too late, and it is tried anew.
    assert 200 in map(answer, range(5))


def test_a_control_plane_that_is_down_is_503(envoy: EnvoyAlone) -> None:
    """Its paths say so, and that models go on serving."""
    answer = envoy.client.get("/api/2.0/serving-endpoints")
    told(answer, 503, "TEMPORARILY_UNAVAILABLE", again=True)
    assert "models go on serving" in answer.json()["message"]


def test_what_clients_ask_for_at_start_needs_nobody(envoy: EnvoyAlone) -> None:
    """`.well-known/databricks-config` is answered by Envoy alone, with a workspace id that is digits."""
    answer = envoy.client.get("/.well-known/databricks-config")
    assert (answer.status_code, answer.json()) == (200, {"workspace_id": "1"})


def test_headers_that_only_envoy_may_set_do_not_pass(envoy: EnvoyAlone, short_dir: Path) -> None:
    """Also without tokens, nobody can tell the control plane who they are."""
    envoy.backend(short_dir / "errors" / "api.sock", echo)
    seen = envoy.client.get("/api/2.0/x", headers={"x-wye-user": "root", "X-Wye-Groups": ",admins,", "x-other": "1"})
    assert "x-other" in seen.json()
    assert not any(name.startswith("x-wye") for name in seen.json())
