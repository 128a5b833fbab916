"""The Open Inference Protocol's paths (KServe's and Triton's V2): other words for an endpoint's own.

A request for a prediction gets the endpoint's path, and a media type that tells the replica what the
body is; Envoy then looks for scope and route anew, so that all that follows (permissions, limits, split, errors) is the
endpoint's. A version is a served model. A request for another path does not have the filter at all.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.config.route.v3 import DirectResponseAction, Route, RouteMatch
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import LuaPerRoute
from envoy_data_plane.google.protobuf import Any

from controlplane.domain import ProblemCode
from controlplane.translate import names
from controlplane.translate.messages import error_body, pack, set_header

#: Clients send what they like as the content type, so it is replaced. Triton's tell in a header where the JSON of a body
#: ends and binary tensors begin.
_TO_ENDPOINT = r"""
local NAME = "([%w_-]+)"

local function place_of(path)
  local endpoint, rest = path:match("^/v2/models/" .. NAME .. "/([^?]+)")
  if rest == "ready" then
    return "/api/2.0/serving-endpoints/" .. endpoint .. "/ready"
  end
  local version = rest and rest:match("^versions/" .. NAME .. "/infer$")
  if version then
    return "/serving-endpoints/" .. endpoint .. "/served-models/" .. version .. "/invocations", endpoint
  elseif rest == "infer" then
    return "/serving-endpoints/" .. endpoint .. "/invocations", endpoint
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local place, model = place_of(headers:get(":path"))
  if not place then
    return
  end
  if model then
    local length = (headers:get("inference-header-content-length") or ""):match("^%d+$")
    local media = "application/vnd.open-inference+json; model=" .. model
    headers:replace("content-type", length and media .. "; json=" .. length or media)
  end
  headers:replace(":path", place)
  handle:clearRouteCache()
end
"""


def routes() -> list[Route]:
    """Whether there is a server, which Envoy answers by itself, and what is said of paths that lead to no endpoint."""
    health = [
        Route(
            match=RouteMatch(path=f"/v2/health/{word}"),
            direct_response=DirectResponseAction(status=200, body=DataSource(inline_string=f'{{"{word}": true}}')),
            response_headers_to_add=[set_header("content-type", "application/json")],
        )
        for word in ("live", "ready")
    ]
    nothing = DirectResponseAction(
        status=ProblemCode.RESOURCE_DOES_NOT_EXIST.status,
        body_format=error_body(
            ProblemCode.RESOURCE_DOES_NOT_EXIST.code,
            "Nothing answers %REQ(:METHOD)% %PATH(NQ)%: there are /v2/models/{endpoint}/infer, "
            "/v2/models/{endpoint}/versions/{served model}/infer and /v2/models/{endpoint}/ready.",
        ),
    )
    return [*health, Route(match=RouteMatch(prefix="/v2/models/"), direct_response=nothing)]


def rules() -> dict[str, Any]:
    """What the virtual host of these routes says to have the filter."""
    return {names.MODEL_FILTER: pack(LuaPerRoute(source_code=DataSource(inline_string=_TO_ENDPOINT)))}
