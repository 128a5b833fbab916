"""OpenAI's paths: the endpoint stands as `model` in the body, not in the path.

The four paths have routes of their own, and only there two filters run: they wait for the whole body, read `model` and
make the path that of the endpoint. Envoy then looks for scope and route anew, so that all that follows (permissions,
limits, split, errors) is the endpoint's. A request for another path does not have the filters at all.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.config.route.v3 import DirectResponseAction, FilterConfig, Route, RouteMatch
from envoy_data_plane.envoy.extensions.filters.http.buffer.v3 import Buffer
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any

from controlplane.domain import ProblemCode
from controlplane.translate import names
from controlplane.translate.gateway import Gateway
from controlplane.translate.messages import error_body, is_post, pack

#: What OpenAI's clients ask for under their base URL, `…/serving-endpoints`. The first segments are no endpoints' names
#: (`RESERVED_NAMES` of the schema).
PATHS = ("chat/completions", "completions", "embeddings", "responses")

#: Looks at each byte once, in loops that LuaJIT compiles: 15 MB of text take 0.05 s, the worst JSON 0.2 s. Envoy's own
#: `json_to_metadata` builds the whole document, 6 s for 10 MB of numbers, while all other requests of the thread wait.
#:
#: The first "model" of the outermost object counts. What is no endpoint's name must be one segment of the path, and match
#: none: it is percent-encoded, and cut off where it is longer than names are.
_TO_ENDPOINT = r"""
local byte = string.byte
local QUOTE, BACKSLASH, OPEN, CLOSE, OPEN_LIST, CLOSE_LIST = byte('"\\{}[]', 1, 6)

local function end_of_string(text, i)
  local c = byte(text, i)
  while c and c ~= QUOTE do
    i = i + (c == BACKSLASH and 2 or 1)
    c = byte(text, i)
  end
  return i
end

local function model_of(text)
  local depth, i, length = 0, 1, #text
  while i <= length do
    local c = byte(text, i)
    if c == QUOTE then
      local last = end_of_string(text, i + 1)
      if depth == 1 and last - i == 6 and text:sub(i, last) == '"model"' then
        local colon, value = text:match('^%s*(:)%s*()', last + 1)
        if colon then
          return text:match('^"([^"]*)"', value)
        end
      end
      i = last
    elseif c == OPEN or c == OPEN_LIST then
      depth = depth + 1
    elseif c == CLOSE or c == CLOSE_LIST then
      depth = depth - 1
    end
    i = i + 1
  end
end

local function encoded(c)
  return ("%%%02X"):format(byte(c))
end

function envoy_on_request(handle)
  local body = handle:body()
  local model = body and model_of(body:getBytes(0, body:length()))
  if model then
    local segment = model:sub(1, 64):gsub("[^%w_-]", encoded)
    handle:headers():replace(":path", "/serving-endpoints/" .. segment .. "/invocations")
    handle:clearRouteCache()
  end
end
"""


def filters(gateway: Gateway) -> list[HttpFilter]:
    """The filters, off unless a route switches them on: one holds the body back, the other reads it."""
    whole = Buffer(max_request_bytes=gateway.max_body)
    script = Lua(default_source_code=DataSource(inline_string=_TO_ENDPOINT))
    return [
        HttpFilter(name=names.WHOLE_BODY_FILTER, typed_config=pack(whole), disabled=True),
        HttpFilter(name=names.MODEL_FILTER, typed_config=pack(script), disabled=True),
    ]


def routes() -> list[Route]:
    """The four paths; what they answer themselves is told to requests that name no model."""
    no_model = DirectResponseAction(
        status=ProblemCode.BAD_REQUEST.status,
        body_format=error_body(
            ProblemCode.BAD_REQUEST.code,
            "The body must be a JSON object whose 'model' is the name of a serving endpoint.",
        ),
    )
    matches = [RouteMatch(path=f"/serving-endpoints/{path}", headers=[is_post()]) for path in PATHS]
    return [Route(match=match, direct_response=no_model) for match in matches]


def rules() -> dict[str, Any]:
    """What the virtual host of these routes says to have the filters."""
    on = pack(FilterConfig(config=Any()))
    return {names.WHOLE_BODY_FILTER: on, names.MODEL_FILTER: on}


def first_segments() -> list[str]:
    """What stands in these paths where an endpoint's name would."""
    return sorted({path.partition("/")[0] for path in PATHS})
