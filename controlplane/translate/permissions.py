"""Who may query an endpoint: checked in Envoy against the verified token, so that it holds while the control plane is down.

The rule stands once per endpoint, at its virtual host, and is encoded once per audience: most endpoints share one.
"""

from __future__ import annotations

from functools import lru_cache

from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal, RbacAction
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac, RbacPerRoute
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from controlplane.domain import GROUPS_HEADER, USER_HEADER, Audience, member
from controlplane.translate import names
from controlplane.translate.gateway import Gateway
from controlplane.translate.messages import pack


def filters(gateway: Gateway) -> list[HttpFilter]:
    """The filter that endpoints give their rules to. Without one it lets pass: the API decides for itself."""
    return [HttpFilter(name=names.PERMISSIONS_FILTER, typed_config=pack(Rbac()))] if gateway.jwks else []


def rules(audience: Audience, gateway: Gateway) -> dict[str, Any]:
    """What the virtual host of an endpoint tells the filter; nothing when there are no tokens."""
    return {names.PERMISSIONS_FILTER: _only(audience)} if gateway.jwks else {}


@lru_cache(maxsize=1024)
def _only(audience: Audience) -> Any:
    principals = []
    if audience.everyone:
        principals.append(Principal(any=True))
    else:
        principals += [_header(USER_HEADER, StringMatcher(exact=user)) for user in audience.users]
        principals += [_header(GROUPS_HEADER, StringMatcher(contains=member(each))) for each in audience.groups]
    policy = Policy(permissions=[Permission(any=True)], principals=principals)
    policies = {"may query": policy} if principals else {}
    return pack(RbacPerRoute(rbac=Rbac(rules=Rules(action=RbacAction.ALLOW, policies=policies))))


def _header(name: str, value: StringMatcher) -> Principal:
    return Principal(header=HeaderMatcher(name=name, string_match=value))
