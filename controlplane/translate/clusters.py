"""Clusters: one per served entity and generation, fed by EDS, and the static one of the control plane."""

from __future__ import annotations

from functools import lru_cache

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import Http1ProtocolOptions
from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonHttpOptions
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.v3 import Percent

from controlplane.domain import Address
from controlplane.translate import names
from controlplane.translate.encoding import encode
from controlplane.translate.gateway import Gateway
from controlplane.translate.messages import ADS, address, pack, seconds
from controlplane.translate.resource import Resource, TypeUrl


@lru_cache(maxsize=4096)
def serving(name: str, statistics: str, gateway: Gateway) -> Resource:
    """The cluster of one served entity."""
    # Protobuf messages that are concatenated are merged, so what all clusters share is encoded once: a tenth of the
    # time for the most frequent of all resources (0.6 ms otherwise, most of it nested option messages).
    body = encode(Cluster(name=name, alt_stat_name=statistics)) + _common(gateway)
    return Resource.of(TypeUrl.CLUSTER, name, body)


@lru_cache(maxsize=16)
def _common(gateway: Gateway) -> bytes:
    cluster = Cluster(
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ADS),
        connect_timeout=seconds(1),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakersThresholds(
                    max_connections=gateway.max_connections,
                    max_pending_requests=gateway.max_requests,
                    max_requests=gateway.max_requests,
                    # Retries are only of requests that no replica has seen (routes.py), so they need no brake of
                    # their own; the default of 3 at a time loses requests when a busy replica dies.
                    max_retries=gateway.max_requests,
                )
            ]
        ),
        # A replica that EDS lists answered its health check; Envoy must not second-guess that, nor send requests to
        # hosts that are out because "panic" says so, nor keep removed ones.
        common_lb_config=ClusterCommonLbConfig(
            healthy_panic_threshold=Percent(value=0), update_merge_window=seconds(0)
        ),
        ignore_health_on_host_removal=True,
        typed_extension_protocol_options=_http1(gateway),
    )
    return encode(cluster)


@lru_cache(maxsize=4096)
def endpoints(name: str, addresses: tuple[Address, ...]) -> Resource:
    """Where the replicas of a cluster listen; none is a valid answer, and drains the cluster."""
    return Resource.of(TypeUrl.ENDPOINTS, name, encode(_assignment(name, addresses)))


def control_plane(gateway: Gateway) -> tuple[Resource, ...]:
    """The control plane's REST API as a cluster, and where it is."""
    cluster = Cluster(
        name=names.API_CLUSTER,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ADS),
        connect_timeout=seconds(1),
        ignore_health_on_host_removal=True,
        typed_extension_protocol_options=_http1(gateway),
    )
    return Resource.of(TypeUrl.CLUSTER, names.API_CLUSTER, encode(cluster)), control_planes(gateway.api)


def control_planes(addresses: tuple[Address, ...]) -> Resource:
    """Where the control planes answer; which of them does not matter."""
    return endpoints(names.API_CLUSTER, addresses)


def _assignment(name: str, addresses: tuple[Address, ...]) -> ClusterLoadAssignment:
    hosts = [LbEndpoint(endpoint=Endpoint(address=address(where))) for where in addresses]
    return ClusterLoadAssignment(
        cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=hosts)] if hosts else []
    )


def _http1(gateway: Gateway) -> dict[str, object]:
    options = HttpProtocolOptions(
        common_http_protocol_options=CommonHttpOptions(idle_timeout=seconds(gateway.upstream_idle)),
        explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions()),
    )
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(options)}
