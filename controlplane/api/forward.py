"""Calls that reach a control plane which stands by: passed on to the one that acts, whose answer is given as it came."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol
from uuid import uuid4

import httpx
import orjson
from werkzeug.wrappers import Request, Response

from controlplane.api.errors import RETRY_AFTER
from controlplane.api.request_id import HEADER
from controlplane.api.server import Application
from controlplane.domain import Address, ProblemCode

#: Seconds that a call waits for somebody to act, and that the one that acts may take.
PATIENCE, ANSWER = 10.0, 60.0
#: Seconds between two looks whether the one that was asked still acts.
_LOOK = 0.25
#: Answered here, whoever acts.
HEALTH = "/api/2.0/wye/health"
#: What concerns one connection, or is said anew with each answer.
_OWN = {"connection", "content-length", "date", "host", "keep-alive", "server", "te", "transfer-encoding", "upgrade"}


class Leader(Protocol):
    """Who acts, for threads."""

    def __call__(self, patience: float, not_at: Address | None = None) -> tuple[bool, Address | None]:
        """(True, None): here; (False, where); (False, None): nobody within `patience` seconds, `not_at` left aside."""


class PassedOn:
    """A WSGI application that answers while this control plane acts, and passes on what is asked of it otherwise."""

    def __init__(self, app: Application, leader: Leader) -> None:
        self._app = app
        self._leader = leader
        self._others = _Others()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """As WSGI says."""
        given = None if environ.get("PATH_INFO") == HEALTH else self._passed_on(Request(environ))
        return (given or self._app)(environ, start)

    def close(self) -> None:
        """Let go of the others."""
        self._others.close()

    def _passed_on(self, asked: Request) -> Response | None:
        """The answer of whoever acts; None when that is this control plane."""
        away: Address | None = None
        while True:
            here, where = self._leader(PATIENCE, away)
            if here:
                return None
            if where is None:
                return _refusal(asked, "No control plane acts at present: one is about to take over. Send this again.")
            try:
                return _answer(_unless_moved(self._others.prepared(asked, where), self._leader, where))
            except httpx.ConnectError:
                away = where  # it has not seen the call, so the next one may have it
            except httpx.HTTPError as error:
                if asked.method not in {"GET", "HEAD"}:
                    return _refusal(
                        asked,
                        f"The control plane that acts ended while it handled this ({type(error).__name__}); "
                        "look what has become of it, then send it again if need be.",
                    )
                away = where


class _Others:
    """Clients of the control planes that calls were passed on to."""

    def __init__(self) -> None:
        self._clients: dict[Address, httpx.Client] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()

    def prepared(self, asked: Request, where: Address) -> Callable[[], httpx.Response]:
        """The request, to be sent there by any thread."""
        with self._lock:
            client = self._clients.get(where)
            if client is None:
                transport = httpx.HTTPTransport(uds=where.path or None)
                base = "http://controlplane" if where.path else f"http://{where}"
                client = self._clients[where] = httpx.Client(transport=transport, base_url=base, timeout=ANSWER)
        headers = [(name, value) for name, value in asked.headers if name.lower() not in _OWN]
        target = asked.full_path if asked.query_string else asked.path
        method, body = asked.method, asked.get_data()
        return lambda: client.request(method, target, headers=headers, content=body)


def _has_moved(leader: Leader, where: Address) -> bool:
    here, now = leader(0.0)
    return here or now not in {None, where}


def _unless_moved(send: Callable[[], httpx.Response], leader: Leader, where: Address) -> httpx.Response:
    """What `send` gives, or httpx.ReadTimeout as soon as it is asked in vain: one that hangs says nothing for ever."""
    answered: queue.SimpleQueue[httpx.Response | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            answered.put(send())
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            answered.put(error)

    threading.Thread(target=run, name="wye-forward", daemon=True).start()
    while True:
        try:
            outcome = answered.get(timeout=_LOOK)
        except queue.Empty:
            if _has_moved(leader, where):
                raise httpx.ReadTimeout("it did not answer before another took over") from None
            continue
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _answer(given: httpx.Response) -> Response:
    headers = [(name, value) for name, value in given.headers.multi_items() if name.lower() not in _OWN]
    return Response(given.content, given.status_code, headers)


def _refusal(asked: Request, message: str) -> Response:
    code = ProblemCode.TEMPORARILY_UNAVAILABLE
    request_id = asked.headers.get(HEADER) or str(uuid4())
    headers = {"Retry-After": str(RETRY_AFTER), HEADER: request_id}
    body = orjson.dumps({"error_code": code.code, "message": message})
    return Response(body, code.status, headers, mimetype="application/json")
