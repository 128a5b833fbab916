"""Who is calling: the filters that verify tokens in Envoy, so that nothing is asked of the control plane per request.

In this order: `Basic token:<token>` is turned into Bearer, the token's signature and times are checked, tokens that were
revoked are refused. The list of those comes by ECDS, a resource of its own: a revocation leaves the listener alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    ExtensionConfigSource,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.rbac.v3 import Action, RbacAction
from envoy_data_plane.envoy.config.route.v3 import RouteMatch
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.filters.http.composite.v3 import Composite, ExecuteFilterAction
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwtAuthentication,
    JwtCacheConfig,
    JwtClaimToHeader,
    JwtProvider,
    JwtRequirement,
    RequirementRule,
)
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import HttpRequestHeaderMatchInput
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig as XdsExtension
from envoy_data_plane.xds.type.matcher.v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicateSinglePredicate,
    MatcherMatcherTree,
    MatcherMatcherTreeMatchMap,
    MatcherOnMatch,
    StringMatcher,
)

from controlplane.translate import names
from controlplane.translate.gateway import Gateway
from controlplane.translate.messages import ADS, pack, resource
from controlplane.translate.resource import Resource, TypeUrl

#: Carries the token's id from the verified token to the list of revoked ones; removed from what clients send.
TOKEN_ID_HEADER = "x-wye-token"  # noqa: S105 - a header's name

#: Envoy has nothing but Lua to decode base64 with. It runs for Basic credentials only (33 µs); with Bearer, matching the
#: header costs 4 µs, where the script itself would cost 10.
_BASIC_TO_BEARER = """
local digits = {}
for value, byte in ipairs({("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):byte(1, 64)}) do
  digits[byte] = value - 1
end

local function decoded(text)
  local out, bits, count = {}, 0, 0
  for i = 1, #text do
    local digit = digits[text:byte(i)]
    if digit then
      bits, count = (bits * 64 + digit) % 16777216, count + 6
      if count >= 8 then
        count = count - 8
        out[#out + 1] = string.char(math.floor(bits / 2 ^ count) % 256)
      end
    end
  end
  return table.concat(out)
end

function envoy_on_request(handle)
  local given = handle:headers():get("authorization")
  local token = given and #given < 16384 and decoded(given:sub(7)):match("^token:([%w%.%-_]+)$")
  if token then
    handle:headers():replace("authorization", "Bearer " .. token)
  end
end
"""


def filters(gateway: Gateway) -> list[HttpFilter]:
    """The filters that authenticate a request; none when the gateway has no keys."""
    if not gateway.jwks:
        return []
    return [
        HttpFilter(name=names.BASIC_FILTER, typed_config=pack(_for_basic_only())),
        HttpFilter(name=names.TOKEN_FILTER, typed_config=pack(_tokens(gateway))),
        HttpFilter(
            name=names.REVOKED_TOKENS,
            config_discovery=ExtensionConfigSource(
                config_source=ADS, type_urls=["type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"]
            ),
        ),
    ]


def revoked_tokens(ids: Iterable[str]) -> Resource:
    """The filter that refuses these tokens, whatever their number: they are looked up in a map."""
    refused = dict.fromkeys(sorted(ids), _ON_REVOKED)
    rbac = Rbac()
    if refused:
        tree = MatcherMatcherTree(
            input=_header(TOKEN_ID_HEADER), exact_match_map=MatcherMatcherTreeMatchMap(map=refused)
        )
        rbac = Rbac(matcher=Matcher(matcher_tree=tree, on_no_match=_action("not revoked", RbacAction.ALLOW)))
    message = TypedExtensionConfig(name=names.REVOKED_TOKENS, typed_config=pack(rbac))
    return resource(TypeUrl.EXTENSION, names.REVOKED_TOKENS, message)


def _tokens(gateway: Gateway) -> JwtAuthentication:
    provider = JwtProvider(
        issuer="wye",
        local_jwks=DataSource(inline_string=gateway.jwks),
        forward=False,  # a token is between the caller and Wye; models do not get to see it
        payload_in_metadata=names.TOKEN_METADATA,
        claim_to_headers=[JwtClaimToHeader(header_name=TOKEN_ID_HEADER, claim_name="tid")],
        clock_skew_seconds=1,  # both clocks are this machine's, and 60 s is the default
        jwt_cache_config=JwtCacheConfig(jwt_cache_size=1000),
    )
    return JwtAuthentication(
        providers={"wye": provider},
        rules=[
            RequirementRule(match=RouteMatch(prefix="/.well-known/")),
            RequirementRule(match=RouteMatch(prefix="/"), requires=JwtRequirement(provider_name="wye")),
        ],
    )


def _for_basic_only() -> ExtensionWithMatcher:
    script = Lua(default_source_code=DataSource(inline_string=_BASIC_TO_BEARER))
    run = ExecuteFilterAction(typed_config=TypedExtensionConfig(name=names.BASIC_FILTER, typed_config=pack(script)))
    predicate = MatcherMatcherListPredicateSinglePredicate(
        input=_header("authorization"), value_match=StringMatcher(prefix="Basic ", ignore_case=True)
    )
    when = MatcherMatcherListFieldMatcher(
        predicate=MatcherMatcherListPredicate(single_predicate=predicate),
        on_match=MatcherOnMatch(action=XdsExtension(name="decode", typed_config=pack(run))),
    )
    return ExtensionWithMatcher(
        extension_config=TypedExtensionConfig(name="composite", typed_config=pack(Composite())),
        xds_matcher=Matcher(matcher_list=MatcherMatcherList(matchers=[when])),
    )


def _header(name: str) -> XdsExtension:
    return XdsExtension(name="header", typed_config=pack(HttpRequestHeaderMatchInput(header_name=name)))


def _action(name: str, action: RbacAction) -> MatcherOnMatch:
    return MatcherOnMatch(action=XdsExtension(name=name, typed_config=pack(Action(name=name, action=action))))


_ON_REVOKED = _action("revoked", RbacAction.DENY)
