"""The xDS services of the v3 API: which gRPC method speaks which variant, for which type."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.discovery.messages import Variant
from controlplane.translate.resource import TypeUrl


@dataclass(frozen=True, slots=True)
class Method:
    """One streaming method; `only_type` is None for the aggregated service, which carries every type."""

    service: str
    name: str
    variant: Variant
    only_type: str | None = None

    @property
    def path(self) -> str:
        """The method as it is called over HTTP/2."""
        return f"/{self.service}/{self.name}"


def _separate(package: str, service: str, methods: str, type_url: str) -> tuple[Method, Method]:
    full = f"envoy.service.{package}.v3.{service}"
    return (
        Method(full, f"Stream{methods}", Variant.SOTW, type_url),
        Method(full, f"Delta{methods}", Variant.DELTA, type_url),
    )


_ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"

METHODS: tuple[Method, ...] = (
    Method(_ADS, "StreamAggregatedResources", Variant.SOTW),
    Method(_ADS, "DeltaAggregatedResources", Variant.DELTA),
    *_separate("cluster", "ClusterDiscoveryService", "Clusters", TypeUrl.CLUSTER),
    *_separate("endpoint", "EndpointDiscoveryService", "Endpoints", TypeUrl.ENDPOINTS),
    *_separate("listener", "ListenerDiscoveryService", "Listeners", TypeUrl.LISTENER),
    *_separate("route", "RouteDiscoveryService", "Routes", TypeUrl.ROUTES),
    *_separate("route", "ScopedRoutesDiscoveryService", "ScopedRoutes", TypeUrl.SCOPE),
    *_separate("secret", "SecretDiscoveryService", "Secrets", TypeUrl.SECRET),
    *_separate("runtime", "RuntimeDiscoveryService", "Runtime", TypeUrl.RUNTIME),
    *_separate("extension", "ExtensionConfigDiscoveryService", "ExtensionConfigs", TypeUrl.EXTENSION),
    # Virtual hosts exist in the delta variant only.
    Method(
        "envoy.service.route.v3.VirtualHostDiscoveryService", "DeltaVirtualHosts", Variant.DELTA, TypeUrl.VIRTUAL_HOST
    ),
)


def method(variant: Variant, only_type: str | None = None) -> Method:
    """The method that serves a type (None: all of them) in a variant; raises LookupError when there is none."""
    for each in METHODS:
        if each.variant is variant and each.only_type == only_type:
            return each
    raise LookupError(f"no xDS service for {only_type} in the {variant.value} variant")
