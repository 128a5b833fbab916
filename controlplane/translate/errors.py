"""Errors that Envoy itself makes, told in the shape of the API's own.

Clients cannot read Envoy's plain text ("upstream connect error …") and would report a bug of their own; every error on
the public port is JSON (reference/serving-api.md 2.3).
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLogFilter, ExtensionFilter, ResponseFlagFilter
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)

from controlplane.domain import USER_HEADER, ProblemCode
from controlplane.translate import page_replies
from controlplane.translate.messages import error_body, pack, set_header


def _flags(*flags: str) -> AccessLogFilter:
    """A reply with one of these response flags."""
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=list(flags)))


def _when(expression: str) -> AccessLogFilter:
    """A reply for which a CEL expression holds."""
    return AccessLogFilter(
        extension_filter=ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel",
            typed_config=pack(ExpressionFilter(expression=expression)),
        )
    )


#: Errors that Envoy itself makes: when, status (None: as it is), code and words. The first line that fits is used, so
#: none is left without JSON. Direct responses of routes have a body of their own, which a mapper would replace.
_OWN = "response.code_details != 'direct_response'"
ERRORS: tuple[tuple[AccessLogFilter, int | None, ProblemCode, str], ...] = (
    (
        _when("request.path.startsWith('/api/') && response.code in [502, 503, 504]"),
        503,
        ProblemCode.TEMPORARILY_UNAVAILABLE,
        "The control plane does not answer; models go on serving meanwhile.",
    ),
    (
        _flags("NR"),
        404,
        ProblemCode.RESOURCE_DOES_NOT_EXIST,
        (
            "Nothing answers %REQ(:METHOD)% %PATH(NQ)%: there is no such endpoint, served model or path. Predictions are made "
            "with POST /serving-endpoints/{endpoint}/invocations or "
            "/serving-endpoints/{endpoint}/served-models/{served model}/invocations."
        ),
    ),
    (
        _flags("UO"),
        429,
        ProblemCode.REQUEST_LIMIT_EXCEEDED,
        "Too many concurrent requests. Consider increasing the provisioned concurrency of the served entity.",
    ),
    (_flags("UT", "SI", "DT"), 504, ProblemCode.DEADLINE_EXCEEDED, "The model did not answer in time."),
    (
        _flags("UH"),
        503,
        ProblemCode.TEMPORARILY_UNAVAILABLE,
        "No replica of the served model is ready; it is starting or has failed.",
    ),
    (
        _flags("UF", "URX", "UC", "UR", "LR", "NC"),
        503,
        ProblemCode.TEMPORARILY_UNAVAILABLE,
        "The connection to the model was lost before it answered.",
    ),
    (
        _when("response.code == 401"),
        401,
        ProblemCode.UNAUTHENTICATED,
        "A valid token is needed, sent as the header 'Authorization: Bearer <token>'. %LOCAL_REPLY_BODY%",
    ),
    (
        _when("response.code_details == 'rbac_access_denied_matched_policy[revoked]'"),
        401,
        ProblemCode.UNAUTHENTICATED,
        "This token was revoked.",
    ),
    (
        _when("response.code_details.startsWith('rbac_access_denied')"),
        403,
        ProblemCode.PERMISSION_DENIED,
        (f"User %REQ({USER_HEADER})% may not query this endpoint; whoever manages it can grant CAN_QUERY."),
    ),
    (
        _when("response.code_details == 'local_rate_limited'"),
        None,  # its Retry-After is already there
        ProblemCode.REQUEST_LIMIT_EXCEEDED,
        "A rate limit of this endpoint is used up for now.",
    ),
    (_when("response.code == 413"), 413, ProblemCode.BAD_REQUEST, "The request body is too large."),
    (_when("response.code == 408"), 408, ProblemCode.DEADLINE_EXCEEDED, "The request did not arrive in time."),
    (_when("response.code == 431"), 431, ProblemCode.BAD_REQUEST, "The request's headers are too large."),
    (
        _when(f"{_OWN} && response.code >= 500"),
        None,
        ProblemCode.INTERNAL_ERROR,
        "Envoy could not carry the request: %RESPONSE_CODE_DETAILS%.",
    ),
    (
        _when(f"{_OWN} && response.code >= 400"),
        None,
        ProblemCode.BAD_REQUEST,
        "The request is not one that can be carried: %RESPONSE_CODE_DETAILS%. %LOCAL_REPLY_BODY%",
    ),
)


def local_replies() -> LocalReplyConfig:
    """How each reply that Envoy makes by itself is told."""
    return LocalReplyConfig(mappers=[*page_replies.mappers(), *(_mapper(line) for line in ERRORS)])


def _mapper(line: tuple[AccessLogFilter, int | None, ProblemCode, str]) -> ResponseMapper:
    when, status, code, message = line
    retry = status in {429, 503}  # every client waits for as long as this says, and no longer
    return ResponseMapper(
        filter=when,
        status_code=status,
        body_format_override=error_body(code.code, message),
        headers_to_add=[set_header("retry-after", "1")] if retry else [],
    )
