"""The table of contents: what there is for the gateway itself, and for one endpoint."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain import Address, Audience, Deployment, RateLimit
from controlplane.translate import clusters, listeners, names, routes, tracing
from controlplane.translate.gateway import Gateway
from controlplane.translate.resource import Resource


@dataclass(frozen=True, slots=True)
class EndpointView:
    """All that Envoy has to know of one endpoint."""

    name: str
    #: True while requests are to find the endpoint at all; False once it is deleted and only drains.
    exists: bool
    #: (deployment, percentage) in the order of the config that takes the traffic; empty when there is none.
    split: tuple[tuple[Deployment, int], ...]
    #: Deployments that have a cluster, those that only drain included, with the addresses of their replicas.
    clusters: tuple[tuple[Deployment, tuple[Address, ...]], ...]
    #: Who may make predictions, and how many a minute.
    may_query: Audience = Audience()  # noqa: RUF009 - a frozen value
    limits: tuple[RateLimit, ...] = ()


def translate_gateway(gateway: Gateway) -> tuple[Resource, ...]:
    """What is there without any endpoint: the listener, the control plane's cluster and its routes."""
    return (
        *clusters.control_plane(gateway),
        *tracing.clusters(gateway),
        listeners.public(gateway),
        *routes.own_routes(gateway),
    )


def translate_endpoint(view: EndpointView, gateway: Gateway) -> tuple[Resource, ...]:
    """The resources of one endpoint; equal views give equal bytes."""
    out: list[Resource] = []
    for deployment, addresses in view.clusters:
        name = names.cluster(view.name, deployment)
        out.append(clusters.serving(name, names.statistics(view.name, deployment.entity), gateway))
        out.append(clusters.endpoints(name, addresses))
    if view.exists:
        split = tuple((d.entity, names.cluster(view.name, d), percent) for d, percent in view.split)
        routing = routes.endpoint_routes(view.name, split, gateway, view.may_query, view.limits)
        out.append(routing)
        out.append(routes.endpoint_scope(view.name, routing.refs))
    return tuple(out)
