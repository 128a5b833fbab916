"""Traces in OpenTelemetry's protocol (OTLP over HTTP): a span for each request, and one for its way to the replica.

The caller's `traceparent` is gone on with, and the replica is told in the same header, so that its own span becomes a part of
the trace. Without an address there is no tracing in the configuration at all.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import HttpService, HttpUri
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.envoy.config.trace.v3 import OpenTelemetryConfig, TracingHttp
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManagerTracing
from envoy_data_plane.envoy.type.tracing.v3 import CustomTag
from envoy_data_plane.envoy.type.v3 import Percent

from controlplane.domain import Address
from controlplane.translate import names
from controlplane.translate.gateway import Gateway
from controlplane.translate.messages import address, pack, resource, seconds
from controlplane.translate.resource import Resource, TypeUrl

#: What the spans of Envoy and of replicas are of.
SERVICE = "wye-envoy"
_TAGS = {
    "wye.served": "%UPSTREAM_CLUSTER%",
    "wye.served_model": "%RESP(SERVED-MODEL-NAME)%",
    "wye.request_id": "%REQ(X-REQUEST-ID)%",
}


def tracing(gateway: Gateway) -> HttpConnectionManagerTracing | None:
    """How the listener traces requests; None: not at all."""
    if not gateway.otlp:
        return None
    uri = HttpUri(uri=f"{gateway.otlp}/v1/traces", cluster=names.OTLP_CLUSTER, timeout=seconds(5))
    config = OpenTelemetryConfig(http_service=HttpService(http_uri=uri), service_name=SERVICE)
    return HttpConnectionManagerTracing(
        provider=TracingHttp(name="envoy.tracers.opentelemetry", typed_config=pack(config)),
        random_sampling=Percent(value=gateway.trace_percent),
        operation="%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        spawn_upstream_span=True,
        custom_tags=[CustomTag(tag=tag, value=value) for tag, value in _TAGS.items()],
    )


def clusters(gateway: Gateway) -> tuple[Resource, ...]:
    """The collector as a cluster, if there is one."""
    if not gateway.otlp:
        return ()
    url = urlsplit(gateway.otlp)
    host, port = url.hostname or "", url.port or 80
    where = LbEndpoint(endpoint=Endpoint(address=address(Address(host=host, port=port))))
    cluster = Cluster(
        name=names.OTLP_CLUSTER,
        type=ClusterDiscoveryType.STATIC if _is_ip(host) else ClusterDiscoveryType.STRICT_DNS,
        connect_timeout=seconds(1),
        load_assignment=ClusterLoadAssignment(
            cluster_name=names.OTLP_CLUSTER, endpoints=[LocalityLbEndpoints(lb_endpoints=[where])]
        ),
    )
    return (resource(TypeUrl.CLUSTER, names.OTLP_CLUSTER, cluster),)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
