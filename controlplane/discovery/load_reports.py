"""Load reporting (LRS): every Envoy tells each second or so how many requests it has for which cluster. No scraping.

Spec: envoy/service/load_stats/v3/lrs.proto and envoy/config/endpoint/v3/load_report.proto.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol, cast

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2

from controlplane.discovery.wire import message_classes
from controlplane.domain.load import LoadReport
from controlplane.translate.resource import field_bytes, varint

_FIELD = descriptor_pb2.FieldDescriptorProto
_REPEATED, _SINGLE = _FIELD.LABEL_REPEATED, _FIELD.LABEL_OPTIONAL
_COUNT = _FIELD.TYPE_UINT64

_CLASSES = message_classes(
    "wye.load",
    {
        "Node": {"id": (1, _FIELD.TYPE_STRING, _SINGLE)},
        "Duration": {"seconds": (1, _FIELD.TYPE_INT64, _SINGLE), "nanos": (2, _FIELD.TYPE_INT32, _SINGLE)},
        "LocalityStats": {
            "succeeded": (2, _COUNT, _SINGLE),
            "in_progress": (3, _COUNT, _SINGLE),
            "failed": (4, _COUNT, _SINGLE),
            "issued": (8, _COUNT, _SINGLE),
        },
        "ClusterStats": {
            "cluster": (1, _FIELD.TYPE_STRING, _SINGLE),
            "localities": (2, "LocalityStats", _REPEATED),
            "dropped": (3, _COUNT, _SINGLE),
            "interval": (4, "Duration", _SINGLE),
        },
        "LoadStatsRequest": {"node": (1, "Node", _SINGLE), "clusters": (2, "ClusterStats", _REPEATED)},
    },
)

_SERVICE, _METHOD = "envoy.service.load_stats.v3.LoadReportingService", "StreamLoadStats"

#: An Envoy's main thread takes 9 µs for a cluster of a report, idle or not, and meanwhile does nothing else. So reports
#: come every second as long as they have no more than this many clusters, and the more rarely the more there are above it.
CLUSTERS_A_SECOND = 2000

#: Called with an Envoy's node id and what it reports of each cluster that has or had requests.
Listener = Callable[[str, Sequence[LoadReport]], None]


class _Locality(Protocol):
    succeeded: int
    in_progress: int
    failed: int
    issued: int


class _Interval(Protocol):
    seconds: int
    nanos: int


class _Cluster(Protocol):
    cluster: str
    localities: Sequence[_Locality]
    dropped: int
    interval: _Interval


class _Node(Protocol):
    id: str


class _Request(Protocol):
    node: _Node
    clusters: Sequence[_Cluster]


def handler(listener: Listener) -> grpc.GenericRpcHandler[bytes, bytes]:
    """The load reporting service; `listener` is called on the server's loop."""

    async def stream(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        node_id, told = "", 0
        try:
            async for data in requests:
                request = parse(data)
                node_id = node_id or request.node.id  # only the first request says who reports
                if told != (seconds := interval(len(request.clusters))):
                    told = seconds
                    await context.write(answer(seconds))
                listener(node_id, reports(node_id, request))
        finally:
            listener(node_id, ())

    methods = {_METHOD: grpc.stream_stream_rpc_method_handler(stream)}
    return grpc.method_handlers_generic_handler(_SERVICE, cast("Any", methods))


def interval(clusters: int) -> int:
    """Seconds from one report to the next of an Envoy with so many clusters."""
    return max(1, -(-clusters // CLUSTERS_A_SECOND))


def answer(seconds: int) -> bytes:
    """A LoadStatsResponse: report all clusters (4: send_all_clusters), that often (2: load_reporting_interval)."""
    return field_bytes(2, b"\x08" + varint(seconds)) + b"\x20\x01"


def parse(data: bytes) -> _Request:
    """A LoadStatsRequest."""
    return cast("_Request", _CLASSES["LoadStatsRequest"].FromString(data))


def _gauge(count: int) -> int:
    """One that fell below zero arrives as a number that nothing can be."""
    return count if count < 1 << 63 else 0


def reports(node_id: str, request: _Request) -> tuple[LoadReport, ...]:
    """What the request says of each cluster that has or had requests in its interval."""
    found = []
    for stats in request.clusters:
        if not stats.localities and not stats.dropped:
            continue  # most of ten thousand endpoints, each second
        report = LoadReport(
            node_id=node_id,
            cluster=stats.cluster,
            seconds=stats.interval.seconds + stats.interval.nanos / 1e9,
            issued=sum(locality.issued for locality in stats.localities),
            succeeded=sum(locality.succeeded for locality in stats.localities),
            failed=sum(locality.failed for locality in stats.localities),
            in_progress=sum(_gauge(locality.in_progress) for locality in stats.localities),
            dropped=stats.dropped,
        )
        if report.issued or report.in_progress or report.dropped or report.succeeded or report.failed:
            found.append(report)
    return tuple(found)
