"""Every name that Envoy sees, and why it is unique."""

from __future__ import annotations

import hashlib

from controlplane.domain import Deployment

#: The one listener of the public port.
LISTENER = "public"
#: The control plane itself, as an upstream of Envoy.
API_CLUSTER = "wye-api"
#: The collector of traces, where there is one.
OTLP_CLUSTER = "otlp-collector"
#: Routes of `/api/2.0/…`.
API_ROUTES = "control-plane"
#: Routes of `/.well-known/databricks-config`.
WELL_KNOWN_ROUTES = "well-known"
#: Routes of OpenAI's paths, e.g. `/serving-endpoints/chat/completions`.
OPENAI_ROUTES = "openai"
#: Routes of the Open Inference Protocol's paths, and the second segments of these: each is a scope.
OPEN_INFERENCE_ROUTES = "open-inference"
OPEN_INFERENCE_PATHS = ("models", "health")
#: Routes of the Serving page, and the second segments of its paths: each is a scope.
PAGE_ROUTES = "serving-page"
PAGE_PATHS = ("endpoints", "create", "control-plane", "sign-in", "static")
#: The listener's filters. Endpoints give rules to some of them under these names.
BASIC_FILTER = "basic-credentials"
TOKEN_FILTER = "envoy.filters.http.jwt_authn"  # noqa: S105 - a filter's name
PERMISSIONS_FILTER = "permissions"
WHOLE_BODY_FILTER = "whole-body"
MODEL_FILTER = "model-in-body"
RATE_FILTER = "rate-limits"
SIZE_FILTER = "body-size"
#: The filter that refuses revoked tokens, and the one resource that holds its list.
REVOKED_TOKENS = "revoked-tokens"

#: A header that the Serving page sends with predictions. Other sites' pages cannot, so with it the cookie is heeded.
PAGE_HEADER = "x-wye-page"


def session_cookie(jwks: str) -> str:
    """The cookie that holds the Serving page's token: cookies are shared by all ports of a host, so each key set has its own."""
    return f"wye-session-{hashlib.blake2b(jwks.encode(), digest_size=4).hexdigest()}"


def cluster(endpoint: str, deployment: Deployment) -> str:
    """The cluster of a served entity in one generation, e.g. `multi-model/current@3.1f2e3d4c`.

    Unique because (endpoint id, entity, generation) is: a re-created endpoint of the same name has another id, and a
    changed entity another generation. The endpoint's name is in it for people only.
    """
    return f"{endpoint}/{deployment.entity}@{deployment.generation}.{deployment.endpoint_id[:8]}"


def deployed(cluster_name: str) -> tuple[str, str, str] | None:
    """The endpoint, the first eight digits of its id, and the served entity, of a cluster; None for one of our own."""
    endpoint, _, rest = cluster_name.partition("/")
    entity, _, generation = rest.rpartition("@")
    return (endpoint, generation.rpartition(".")[2], entity) if endpoint and entity else None


def statistics(endpoint: str, entity: str) -> str:
    """The cluster's name in Envoy's statistics: stable over generations, so that graphs do not break at an update."""
    return f"{endpoint}/{entity}"


def routes(endpoint: str) -> str:
    """The RouteConfiguration of an endpoint: endpoint names are unique, and the prefix keeps them off our own names."""
    return f"endpoint/{endpoint}"


def scope(endpoint: str) -> str:
    """The ScopedRouteConfiguration of an endpoint; the prefix keeps it off our own scopes."""
    return f"endpoint/{endpoint}"


def openai_scope(segment: str) -> str:
    """The scope of OpenAI's paths with this segment in an endpoint's place; no scope of an endpoint has this prefix."""
    return f"{OPENAI_ROUTES}/{segment}"
