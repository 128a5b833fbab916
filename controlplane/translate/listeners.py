"""The one public listener. It changes only with the settings: everything about endpoints is in scopes and routes."""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import DataSource, HttpProtocolOptions, RuntimeUInt32
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import RouteMatch
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwtAuthentication,
    JwtCacheConfig,
    JwtClaimToHeader,
    JwtProvider,
    JwtRequirement,
    RequirementRule,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpFilter,
    LocalReplyConfig,
    ResponseMapper,
    ScopedRds,
    ScopedRoutes,
    ScopedRoutesScopeKeyBuilder,
    ScopedRoutesScopeKeyBuilderFragmentBuilder,
    ScopedRoutesScopeKeyBuilderFragmentBuilderHeaderValueExtractor,
)

from controlplane.domain import ProblemCode
from controlplane.translate import names
from controlplane.translate.gateway import Gateway
from controlplane.translate.messages import ADS, address, error_body, pack, resource, seconds, set_header
from controlplane.translate.resource import Resource, TypeUrl

#: Response flags of Envoy → how the error is told. The first line that fits a reply is used.
FLAGS: tuple[tuple[tuple[str, ...], ProblemCode, str], ...] = (
    (
        ("NR",),
        ProblemCode.RESOURCE_DOES_NOT_EXIST,
        "Nothing answers %REQ(:METHOD)% %PATH(NQ)%: there is no such endpoint, served model or path. Predictions are made with POST /serving-endpoints/{endpoint}/invocations or /serving-endpoints/{endpoint}/served-models/{served model}/invocations.",
    ),
    (
        ("UO",),
        ProblemCode.REQUEST_LIMIT_EXCEEDED,
        "Too many concurrent requests. Consider increasing the provisioned concurrency of the served entity.",
    ),
    (("UT", "SI", "DT"), ProblemCode.DEADLINE_EXCEEDED, "The model did not answer in time."),
    (
        ("UH",),
        ProblemCode.TEMPORARILY_UNAVAILABLE,
        "No replica of the served model is ready; it is starting or has failed.",
    ),
    (
        ("UF", "URX", "UC", "UR", "LR", "NC"),
        ProblemCode.TEMPORARILY_UNAVAILABLE,
        "The connection to the model was lost before it answered.",
    ),
    (("DPE",), ProblemCode.BAD_REQUEST, "The request is not valid HTTP."),
)

#: Status of a reply without such a flag → how the error is told.
STATUSES: tuple[tuple[int, ProblemCode, str], ...] = (
    (
        401,
        ProblemCode.UNAUTHENTICATED,
        "A valid token is needed, sent as the header 'Authorization: Bearer <token>'. %LOCAL_REPLY_BODY%",
    ),
    (413, ProblemCode.BAD_REQUEST, "The request body is too large."),
    (408, ProblemCode.DEADLINE_EXCEEDED, "The request did not arrive in time."),
    (431, ProblemCode.BAD_REQUEST, "The request's headers are too large."),
)


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
            *(
                [HttpFilter(name="envoy.filters.http.jwt_authn", typed_config=pack(_tokens(gateway)))]
                if gateway.jwks
                else []
            ),
            HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router())),
        ],
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
        local_reply_config=LocalReplyConfig(mappers=[*map(_for_flags, FLAGS), *map(_for_status, STATUSES)]),
    )


def _tokens(gateway: Gateway) -> JwtAuthentication:
    """Tokens are verified here, with a key that Envoy holds: no call to the control plane, and none when it is down."""
    provider = JwtProvider(
        issuer="wye",
        local_jwks=DataSource(inline_string=gateway.jwks),
        forward=False,  # a token is between the caller and Wye; models do not get to see it
        payload_in_metadata="token",
        claim_to_headers=[JwtClaimToHeader(header_name="x-wye-user", claim_name="sub")],
        jwt_cache_config=JwtCacheConfig(jwt_cache_size=1000),
    )
    return JwtAuthentication(
        providers={"wye": provider},
        rules=[
            RequirementRule(match=RouteMatch(prefix="/.well-known/")),
            RequirementRule(match=RouteMatch(prefix="/"), requires=JwtRequirement(provider_name="wye")),
        ],
    )


def _path_segment(index: int) -> ScopedRoutesScopeKeyBuilderFragmentBuilder:
    return ScopedRoutesScopeKeyBuilderFragmentBuilder(
        header_value_extractor=ScopedRoutesScopeKeyBuilderFragmentBuilderHeaderValueExtractor(
            name=":path", element_separator="/", index=index
        )
    )


def _for_flags(line: tuple[tuple[str, ...], ProblemCode, str]) -> ResponseMapper:
    flags, code, message = line
    return _mapper(
        AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=list(flags))), code, code.status, message
    )


def _for_status(line: tuple[int, ProblemCode, str]) -> ResponseMapper:
    status, code, message = line
    comparison = ComparisonFilter(
        op=ComparisonFilterOp.EQ, value=RuntimeUInt32(default_value=status, runtime_key="unused")
    )
    return _mapper(AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=comparison)), code, status, message)


def _mapper(when: AccessLogFilter, code: ProblemCode, status: int, message: str) -> ResponseMapper:
    retry = status in (429, 503)  # every client waits for as long as this says, and no longer
    return ResponseMapper(
        filter=when,
        status_code=status,
        body_format_override=error_body(code.code, message),
        headers_to_add=[set_header("retry-after", "1")] if retry else [],
    )
