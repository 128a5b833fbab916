"""The one public listener. It changes only with the settings: everything about endpoints is in scopes and routes."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpFilter,
    ScopedRds,
    ScopedRoutes,
    ScopedRoutesScopeKeyBuilder,
    ScopedRoutesScopeKeyBuilderFragmentBuilder,
    ScopedRoutesScopeKeyBuilderFragmentBuilderHeaderValueExtractor,
)

from controlplane.translate import access_log, authentication, limits, names, openai, permissions, tracing
from controlplane.translate.errors import local_replies
from controlplane.translate.gateway import Gateway
from controlplane.translate.messages import ADS, address, pack, resource, seconds
from controlplane.translate.resource import Resource, TypeUrl


def public(gateway: Gateway) -> Resource:
    """The listener of the public port."""
    listener = Listener(
        name=names.LISTENER,
        address=address(gateway.public),
        per_connection_buffer_limit_bytes=1 << 20,
        filter_chains=[
            FilterChain(filters=[Filter(name="http", typed_config=pack(_http_connection_manager(gateway)))]),
        ],
    )
    return resource(TypeUrl.LISTENER, names.LISTENER, listener)


def _http_connection_manager(gateway: Gateway) -> HttpConnectionManager:
    return HttpConnectionManager(
        stat_prefix=names.LISTENER,
        scoped_routes=ScopedRoutes(
            name=names.LISTENER,
            scope_key_builder=ScopedRoutesScopeKeyBuilder(fragments=[_path_segment(1), _path_segment(2)]),
            rds_config_source=ADS,
            scoped_rds=ScopedRds(scoped_rds_config_source=ADS),
        ),
        http_filters=[
            *authentication.filters(gateway),  # who it is
            *openai.filters(gateway),  # which endpoint it is for, where the path does not say so
            *permissions.filters(gateway),  # what they may
            *limits.filters(gateway),  # how much of it; what was refused before does not count
            # With its `x-envoy-…` headers: the access log and traces tell the path that was asked for by one of them.
            HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router())),
        ],
        early_header_mutation_extensions=authentication.no_claims_of_clients(),
        common_http_protocol_options=HttpProtocolOptions(idle_timeout=seconds(3600)),
        # The route's own timeout ends a request; this one only ends streams on which nothing moves.
        stream_idle_timeout=seconds(gateway.request_timeout + 30),
        request_headers_timeout=seconds(30),
        server_name="wye",
        use_remote_address=True,
        # A caller that names its requests finds its own id in the answer and in the logs.
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        # What the scope is chosen by and what the route is matched with must be the same path.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST,
        local_reply_config=local_replies(),
        access_log=access_log.loggers(gateway),
        tracing=tracing.tracing(gateway),
    )


def _path_segment(index: int) -> ScopedRoutesScopeKeyBuilderFragmentBuilder:
    return ScopedRoutesScopeKeyBuilderFragmentBuilder(
        header_value_extractor=ScopedRoutesScopeKeyBuilderFragmentBuilderHeaderValueExtractor(
            name=":path", element_separator="/", index=index
        )
    )
