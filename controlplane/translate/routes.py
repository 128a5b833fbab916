"""Routes: one RouteConfiguration per endpoint, found by a scope that is keyed on the path's first two segments.

A flat table would be matched line by line and resent whole at each change of any endpoint; a scope per endpoint makes the
ten-thousandth as quick as the first, and a change of weights one small resource (DESIGN.md section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    RetryPolicy,
    RetryPolicyRetryBackOff,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    ScopedRouteConfiguration,
    ScopedRouteConfigurationKey,
    ScopedRouteConfigurationKeyFragment,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.google.protobuf import Any as Packed

from controlplane.domain import GROUPS_HEADER, TOKEN_ID_HEADER, Audience, ProblemCode, RateLimit
from controlplane.translate import limits, names, open_inference, openai, permissions
from controlplane.translate.gateway import Gateway
from controlplane.translate.messages import error_body, is_post, literal, pack, resource, seconds, set_header
from controlplane.translate.resource import Resource, TypeUrl

#: (served entity, its cluster, its percentage), in the order of the config
Split = tuple[tuple[str, str, int], ...]

#: Headers that end in Envoy: the cookie may hold the Serving page's token …
_NOT_FOR_ANYBODY = ("cookie",)
#: … and of the caller, replicas are told the name. (The access log tells it too, and could not if it ended here.)
_NOT_FOR_MODELS = (*_NOT_FOR_ANYBODY, GROUPS_HEADER, TOKEN_ID_HEADER)


@lru_cache(maxsize=4096)
def endpoint_routes(
    endpoint: str,
    split: Split,
    gateway: Gateway,
    may_query: Audience = Audience(),  # noqa: B008 - a frozen value
    rates: tuple[RateLimit, ...] = (),
) -> Resource:
    """The routes of one endpoint: by the split, and straight to each served entity; `()` while it has no config."""
    base = f"/serving-endpoints/{endpoint}"
    routes = [
        Route(
            match=_post(f"{base}/served-models/{entity}/invocations"),
            route=RouteAction(cluster=cluster, **_forwarding(gateway)),
            response_headers_to_add=[set_header("served-model-name", entity)],
        )
        for entity, cluster, _ in split
    ]
    if split:
        routes.insert(0, _weighted(f"{base}/invocations", split, gateway))
    else:
        message = (
            f"Endpoint {endpoint} serves nothing at present: it is stopped, or has no config that is ready yet; "
            f"GET /api/2.0/serving-endpoints/{endpoint} tells which."
        )
        refusal = DirectResponseAction(
            status=ProblemCode.BAD_REQUEST.status,
            body_format=error_body(ProblemCode.BAD_REQUEST.code, literal(message)),
        )
        routes = [Route(match=RouteMatch(prefix="/"), direct_response=refusal)]
    # No catch-all that says "no such served model": what matches nothing is told by the listener, once for all
    # endpoints. Ten thousand copies of an error text are 15 MB of every Envoy, and most of the cost of translating.
    rules = {**permissions.rules(may_query, gateway), **limits.rules(rates)}
    clusters = frozenset(cluster for _, cluster, _ in split)
    return _configuration(names.routes(endpoint), routes, clusters, rules, _NOT_FOR_MODELS)


@lru_cache(maxsize=4096)
def endpoint_scope(endpoint: str, clusters: frozenset[str]) -> Resource:
    """The scope that leads requests for an endpoint to its routes; it waits for the clusters just as they do."""
    return _scope(names.scope(endpoint), ("serving-endpoints", endpoint), names.routes(endpoint), clusters)


def own_routes(gateway: Gateway) -> tuple[Resource, ...]:
    """Routes and scopes of the control plane's API, the Serving page, what clients ask for at start, and others' protocols."""
    api = _control_plane(names.API_ROUTES, "/api/2.0/", gateway)
    page = _control_plane(names.PAGE_ROUTES, "/ui/", gateway)
    # Asked for by every client at start, and by MLflow's before each prediction: Envoy answers it alone.
    well_known = Route(
        match=RouteMatch(path="/.well-known/databricks-config"),
        direct_response=DirectResponseAction(
            status=200, body=DataSource(inline_string=f'{{"workspace_id": "{gateway.workspace_id}"}}')
        ),
        response_headers_to_add=[set_header("content-type", "application/json")],
    )
    clusters = frozenset({names.API_CLUSTER})
    return (
        _configuration(names.API_ROUTES, [api], clusters),
        _scope(names.API_ROUTES, ("api", "2.0"), names.API_ROUTES, clusters),
        _configuration(names.PAGE_ROUTES, [page], clusters),
        *(
            _scope(f"{names.PAGE_ROUTES}/{path}", ("ui", path), names.PAGE_ROUTES, clusters)
            for path in names.PAGE_PATHS
        ),
        _configuration(names.WELL_KNOWN_ROUTES, [well_known], frozenset()),
        _scope(names.WELL_KNOWN_ROUTES, (".well-known", "databricks-config"), names.WELL_KNOWN_ROUTES, frozenset()),
        _configuration(names.OPENAI_ROUTES, openai.routes(), frozenset(), openai.rules()),
        *(
            _scope(names.openai_scope(segment), ("serving-endpoints", segment), names.OPENAI_ROUTES, frozenset())
            for segment in openai.first_segments()
        ),
        _configuration(names.OPEN_INFERENCE_ROUTES, open_inference.routes(), frozenset(), open_inference.rules()),
        *(
            _scope(f"{names.OPEN_INFERENCE_ROUTES}/{path}", ("v2", path), names.OPEN_INFERENCE_ROUTES, frozenset())
            for path in names.OPEN_INFERENCE_PATHS
        ),
    )


def _control_plane(name: str, prefix: str, gateway: Gateway) -> Route:
    """Requests that the control plane answers."""
    return Route(
        name=name,
        match=RouteMatch(prefix=prefix),
        route=RouteAction(cluster=names.API_CLUSTER, timeout=seconds(gateway.api_timeout)),
    )


def _weighted(path: str, split: Split, gateway: Gateway) -> Route:
    return Route(
        match=_post(path),
        route=RouteAction(
            weighted_clusters=WeightedCluster(
                clusters=[
                    WeightedClusterClusterWeight(
                        name=cluster, weight=percent, response_headers_to_add=[set_header("served-model-name", entity)]
                    )
                    for entity, cluster, percent in split
                ]
            ),
            **_forwarding(gateway),
        ),
    )


def _forwarding(gateway: Gateway) -> dict[str, Any]:
    return {"prefix_rewrite": "/invocations", "timeout": seconds(gateway.request_timeout)}


@cache
def _retries() -> RetryPolicy:
    """Retries of requests that no worker can have seen; a prediction is never made twice.

    Between 2 and 5 s in all: so long as a worker host that was killed needs to open the sockets again of replicas that
    have no process at that moment.
    """
    return RetryPolicy(
        retry_on="connect-failure,refused-stream,reset-before-request",
        num_retries=10,
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts", typed_config=pack(PreviousHostsPredicate())
            )
        ],
        host_selection_retry_max_attempts=3,
        retry_back_off=RetryPolicyRetryBackOff(base_interval=seconds(0.025), max_interval=seconds(1)),
    )


def _post(path: str) -> RouteMatch:
    return RouteMatch(path=path, headers=[is_post()])


def _configuration(
    name: str,
    routes: list[Route],
    refs: frozenset[str],
    rules: Mapping[str, Packed] = MappingProxyType({}),
    removed: tuple[str, ...] = _NOT_FOR_ANYBODY,
) -> Resource:
    host = VirtualHost(
        name=name,
        domains=["*"],
        routes=routes,
        retry_policy=_retries(),
        typed_per_filter_config=dict(rules),
        request_headers_to_remove=list(removed),
    )
    return resource(TypeUrl.ROUTES, name, RouteConfiguration(name=name, virtual_hosts=[host]), refs)


def _scope(name: str, segments: tuple[str, str], routes: str, refs: frozenset[str]) -> Resource:
    key = ScopedRouteConfigurationKey(fragments=[ScopedRouteConfigurationKeyFragment(string_key=s) for s in segments])
    message = ScopedRouteConfiguration(name=name, route_configuration_name=routes, key=key)
    return resource(TypeUrl.SCOPE, name, message, refs)
