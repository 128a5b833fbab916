"""Spans of a replica, in OpenTelemetry's protocol (OTLP over HTTP, JSON): one for each request that its caller traces.

Own, because OpenTelemetry's SDK and exporter are megabytes in every replica's memory and tens of microseconds a span. Nothing is
started before the first traced request; what the collector does not take is dropped, and a request never waits for it.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import threading
import time
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

_logger = logging.getLogger(__name__)

#: Requests whose spans wait to be sent; more are dropped.
_MOST = 4096
#: Requests that are sent together, and seconds that they wait for each other.
_TOGETHER, _PAUSE = 512, 1.0
#: Seconds that the collector may take, and for which spans are still sent when the replica ends.
_PATIENCE, _FAREWELL = 5.0, 2.0
#: What the four phases are called in `server-timing` as well.
_PHASES = ("parse", "queue", "predict", "serialize")

#: https://www.w3.org/TR/trace-context/#traceparent-header
_PARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

_SPAN = '{"traceId":"%s","spanId":"%s","parentSpanId":"%s","name":"%s","kind":%d,"startTimeUnixNano":"%d","endTimeUnixNano":"%d"%s}'
_SERVER, _INTERNAL = 2, 1

#: Milliseconds of the phases, as in `service.Reply.times`.
Times = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Parent:
    """The span that a request belongs to, and when the request came (nanoseconds since the epoch)."""

    trace_id: str
    span_id: str
    began: int


def parent(header: bytes) -> Parent | None:
    """What a `traceparent` header says, from now on; None when it says nothing, or that the request is not traced."""
    found = _PARENT.fullmatch(header)
    if found is None or header[:2] == b"ff" or not int(found[3], 16) & 1:
        return None
    return Parent(found[1].decode(), found[2].decode(), time.time_ns())


class Traces:
    """Sends the spans of one replica to a collector. `answered` is for one thread."""

    def __init__(self, collector: str, title: str) -> None:
        """`collector` is a URL without path, such as `http://localhost:4318`; `title` is `endpoint/served model`."""
        url = urlsplit(collector)
        self._where = url.hostname or "", url.port or 80
        self._path = f"{url.path.rstrip('/')}/v1/traces"
        endpoint, _, served = title.partition("/")
        named = {"service.name": "wye-worker", "wye.endpoint": endpoint, "wye.served_model": served}
        attributes = [{"key": key, "value": {"stringValue": value}} for key, value in named.items()]
        attributes.append({"key": "process.pid", "value": {"intValue": str(os.getpid())}})
        self._head = f'{{"resourceSpans":[{{"resource":{{"attributes":{json.dumps(attributes)}}},"scopeSpans":[{{"scope":{{"name":"wye"}},"spans":['
        self._name = json.dumps(f"invocations {served}")[1:-1]
        self._waiting: deque[tuple[Parent, int, int, Times | None]] = deque(maxlen=_MOST)
        self._some = threading.Event()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    def answered(self, of: Parent, status: int, times: Times | None) -> None:
        """A traced request is answered; costs a microsecond."""
        self._waiting.append((of, time.time_ns(), status, times))
        if self._thread is None:
            self._start()
        self._some.set()

    def close(self) -> None:
        """Send what there is, for a short while."""
        self._end.set()
        self._some.set()
        if self._thread is not None:
            self._thread.join(_FAREWELL)

    def _start(self) -> None:
        thread = threading.Thread(target=self._send_all, name="traces", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # none can be had; the next traced request tries again
            if not self._failing:
                _logger.warning("traces wait for a thread that sends them: %s", error)
            self._failing = True
        else:
            self._thread = thread
            self._failing = False

    def _send_all(self) -> None:
        while not (self._end.is_set() and not self._waiting):
            self._some.wait()
            self._some.clear()
            self._end.wait(_PAUSE)
            while self._waiting:
                self._send([self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))])

    def _send(self, requests: list[tuple[Parent, int, int, Times | None]]) -> None:
        spans = ",".join(span for request in requests for span in self._spans(*request))
        body = f"{self._head}{spans}]}}]}}]}}".encode()
        try:
            connection = http.client.HTTPConnection(*self._where, timeout=_PATIENCE)
            try:
                connection.request("POST", self._path, body, {"content-type": "application/json"})
                status = connection.getresponse().status
            finally:
                connection.close()
            failure = "" if status < 300 else f"it answered {status}"
        except (OSError, http.client.HTTPException) as error:
            failure = str(error) or type(error).__name__
        if failure and not self._failing:
            host, port = self._where
            _logger.warning("traces are lost, the collector %s:%d does not take them: %s", host, port, failure)
        self._failing = bool(failure)

    def _spans(self, of: Parent, ended: int, status: int, times: Times | None) -> list[str]:
        mine = os.urandom(8).hex()
        more = f',"attributes":[{{"key":"http.response.status_code","value":{{"intValue":"{status}"}}}}]'
        if status >= 500:
            more += ',"status":{"code":2}'
        spans = [_SPAN % (of.trace_id, mine, of.span_id, self._name, _SERVER, of.began, ended, more)]
        if times is not None:
            # One phase follows on another, and the last has just ended.
            began = ended - int(sum(times) * 1e6)
            for phase, took in zip(_PHASES, times, strict=True):
                until = began + int(took * 1e6)
                spans.append(_SPAN % (of.trace_id, os.urandom(8).hex(), mine, phase, _INTERNAL, began, until, ""))
                began = until
        return spans
