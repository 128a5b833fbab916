"""Who is calling: the filters that verify tokens in Envoy, so that nothing is asked of the control plane per request.

In this order: headers that only Envoy may set are removed, `Basic token:<token>` is turned into Bearer, the token's signature
and times are checked and what it says of the caller becomes these headers, tokens that were revoked are refused. The list of
those comes by ECDS, a resource of its own: a revocation leaves the listener alone.

Headers, because Envoy copies and reads claims in dynamic metadata at 28,000 instructions more for each request.

Browsers send the Serving page's cookie with whatever any page of the same host asks for. So it counts for the page's own
paths, whose forms carry a secret of their own, and for predictions with a header that only the page can send.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    ExtensionConfigSource,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.rbac.v3 import Action, RbacAction
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher, RouteMatch
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.filters.http.composite.v3 import Composite, ExecuteFilterAction
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwtAuthentication,
    JwtCacheConfig,
    JwtClaimToHeader,
    JwtHeader,
    JwtProvider,
    JwtRequirement,
    RequirementRule,
)
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import HeaderMutation
from envoy_data_plane.envoy.type.matcher.v3 import HttpRequestHeaderMatchInput
from envoy_data_plane.google.protobuf import Any
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig as XdsExtension
from envoy_data_plane.xds.type.matcher.v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicateSinglePredicate,
    MatcherOnMatch,
    StringMatcher,
)

from controlplane.domain import CALLER_CLAIMS, CALLER_HEADERS, TOKEN_ID_HEADER
from controlplane.translate import names
from controlplane.translate.encoding import encode
from controlplane.translate.gateway import Gateway
from controlplane.translate.messages import ADS, pack, resource
from controlplane.translate.resource import Resource, TypeUrl, field_bytes

_RBAC = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
#: Envoy has nothing but Lua to decode base64 with. It runs for Basic credentials only (33 µs); with Bearer, matching the
#: header costs 4 µs, where the script itself would cost 10.
_BASIC_TO_BEARER = """
local digits = {}
for value, byte in ipairs({("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):byte(1, 64)}) do
  digits[byte] = value - 1
end

local floor, char = math.floor, string.char

local function decoded(text)
  local out = {}
  for i = 1, #text, 4 do
    local a, b, c, d = text:byte(i, i + 3)
    a, b = digits[a], digits[b]
    if not a or not b then return nil end
    c, d = digits[c], digits[d]
    local bits = a * 262144 + b * 4096 + (c or 0) * 64 + (d or 0)
    out[#out + 1] = char(floor(bits / 65536))
    if c then out[#out + 1] = char(floor(bits / 256) % 256) end
    if d then out[#out + 1] = char(bits % 256) end
  end
  return table.concat(out)
end

function envoy_on_request(handle)
  local given = handle:headers():get("authorization")
  local text = given and #given < 16384 and decoded(given:sub(7))
  local token = text and text:match("^token:([%w%.%-_]+)$")
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
            config_discovery=ExtensionConfigSource(config_source=ADS, type_urls=[_RBAC]),
        ),
    ]


def no_claims_of_clients() -> list[TypedExtensionConfig]:
    """What is done to each request first, also where there are no tokens: nobody but Envoy says who calls."""
    removed = HeaderMutation(mutations=[Mutation(remove=header) for header in CALLER_HEADERS])
    return [TypedExtensionConfig(name="no claims of clients", typed_config=pack(removed))]


def revoked_tokens(ids: Iterable[str]) -> Resource:
    """The filter that refuses these tokens, whatever their number: they are looked up in a map."""
    refused = sorted(ids)
    # Entry by entry as messages, ten thousand would hold up the control plane's loop for 200 ms instead of 40.
    on_match = field_bytes(2, encode(_action("revoked", RbacAction.DENY)))
    entries = b"".join(field_bytes(1, field_bytes(1, each.encode()) + on_match) for each in refused)
    tree = field_bytes(1, encode(_header(TOKEN_ID_HEADER))) + field_bytes(2, entries)
    matcher = field_bytes(2, tree) + field_bytes(3, encode(_action("not revoked", RbacAction.ALLOW)))
    rbac = Any(type_url=_RBAC, value=field_bytes(4, matcher) if refused else b"")
    return resource(
        TypeUrl.EXTENSION, names.REVOKED_TOKENS, TypedExtensionConfig(name=names.REVOKED_TOKENS, typed_config=rbac)
    )


_PREDICTIONS = "/serving-endpoints/"
#: Paths that need no token: what every client asks for when it starts, what leads to the page, and what one signs in with.
_OPEN = (
    RouteMatch(prefix="/.well-known/"),
    *(RouteMatch(path=path) for path in ("/", "/ui", "/ui/")),
    *(RouteMatch(prefix=f"/ui/{path}/") for path in ("sign-in", "static")),
)
#: Where the token is. Never in both: Envoy would verify both, and put what they say together.
_TOKEN, _COOKIE = JwtRequirement(provider_name="wye"), JwtRequirement(provider_name="page")
_NO_TOKEN = HeaderMatcher(name="authorization", present_match=True, invert_match=True)
#: The first that matches counts. Predictions stand first because they are the most.
_RULES = (
    RequirementRule(
        match=RouteMatch(
            prefix=_PREDICTIONS, headers=[HeaderMatcher(name=names.PAGE_HEADER, present_match=True), _NO_TOKEN]
        ),
        requires=_COOKIE,
    ),
    RequirementRule(match=RouteMatch(prefix=_PREDICTIONS), requires=_TOKEN),
    *(RequirementRule(match=match) for match in _OPEN),
    RequirementRule(match=RouteMatch(prefix="/ui/", headers=[_NO_TOKEN]), requires=_COOKIE),
    RequirementRule(match=RouteMatch(prefix="/"), requires=_TOKEN),
)


def _tokens(gateway: Gateway) -> JwtAuthentication:
    return JwtAuthentication(
        providers={
            "wye": _provider(gateway, headers=[JwtHeader(name="authorization", value_prefix="Bearer ")]),
            "page": _provider(gateway, cookies=[names.session_cookie(gateway.jwks)]),
        },
        rules=list(_RULES),
    )


def _provider(gateway: Gateway, headers: Sequence[JwtHeader] = (), cookies: Sequence[str] = ()) -> JwtProvider:
    return JwtProvider(
        issuer="wye",
        local_jwks=DataSource(inline_string=gateway.jwks),
        from_headers=list(headers),
        from_cookies=list(cookies),
        forward=False,  # a token is between the caller and Wye; models do not get to see it
        claim_to_headers=[
            JwtClaimToHeader(header_name=header, claim_name=claim)
            for header, claim in zip(CALLER_HEADERS, CALLER_CLAIMS, strict=True)
        ],
        clock_skew_seconds=1,  # both clocks are this machine's, and 60 s is the default
        jwt_cache_config=JwtCacheConfig(jwt_cache_size=1000),
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
