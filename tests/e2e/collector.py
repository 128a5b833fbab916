"""A collector of traces: what OTLP over HTTP asks of one, in protobuf and in JSON, as its own messages decode them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    service: str
    trace: str
    id: str
    parent: str
    name: str
    began: int
    ended: int
    tags: dict[str, str]


class Collector:
    """Listens on a free port; `spans` grows."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self._chunks() if self.headers["transfer-encoding"] else self._sized()
                assert self.path == "/v1/traces"
                collector.take(body, self.headers["content-type"])
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def _sized(self) -> bytes:
                return self.rfile.read(int(self.headers["content-length"]))

            def _chunks(self) -> bytes:
                """As Envoy sends."""
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, body: bytes, content_type: str) -> None:
        """Decode what is exported; raises on anything that is not OTLP."""
        request = ExportTraceServiceRequest()
        if content_type == "application/json":
            # Ids are hex in OTLP's JSON, where protobuf's own mapping has base64.
            json_format.Parse(_with_base64_ids(body), request)
        else:
            request.ParseFromString(body)
        for resource in request.resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    tags = {each.key: each.value.string_value or str(each.value.int_value) for each in span.attributes}
                    made = Span(
                        about["service.name"],
                        *(each.hex() for each in (span.trace_id, span.span_id, span.parent_span_id)),
                        span.name,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        {**about, **tags},
                    )
                    self.spans.append(made)


def _with_base64_ids(body: bytes) -> str:
    import base64
    import json

    document = json.loads(body)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    return json.dumps(document)
