"""How much a caller may send: requests per minute by endpoint, user and group, and bytes per request.

An endpoint's rate limits stand at its virtual host and are counted in each Envoy for itself. Users need not be known
beforehand: the first call of each makes a bucket of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import RuntimeFractionalPercent, TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import (
    RateLimit as Descriptor,
)
from envoy_data_plane.envoy.config.route.v3 import (
    RateLimitAction,
    RateLimitActionRequestHeaders,
)
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import (
    LocalRateLimitDescriptor,
    RateLimitDescriptorEntry,
)
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.rate_limit_descriptors.expr.v3 import Descriptor as Expression
from envoy_data_plane.envoy.type.v3 import FractionalPercent, TokenBucket
from envoy_data_plane.google.protobuf import Any

from controlplane.domain import EVERYONE, GROUPS_HEADER, USER_HEADER, LimitKey, RateLimit, member
from controlplane.translate import names
from controlplane.translate.body_size import BodySizeLimit
from controlplane.translate.encoding import encode
from controlplane.translate.gateway import Gateway
from controlplane.translate.messages import pack, seconds
from controlplane.translate.resource import varint

#: Users whose calls each Envoy counts at a time, per endpoint; of more, those that have been quiet longest start anew.
USERS_COUNTED = 10_000
_NO_LIMIT = 2**31
_ALWAYS = RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))


def filters(gateway: Gateway) -> list[HttpFilter]:
    """The filter that endpoints give their rate limits to, and the one that refuses large bodies."""
    return [
        HttpFilter(name=names.RATE_FILTER, typed_config=pack(LocalRateLimit(stat_prefix=names.RATE_FILTER))),
        HttpFilter(name=names.SIZE_FILTER, typed_config=pack(BodySizeLimit(max_request_bytes=gateway.max_body))),
    ]


@lru_cache(maxsize=1024)
def rules(limits: tuple[RateLimit, ...]) -> dict[str, Any]:
    """What the virtual host of an endpoint tells the filter; nothing when there are no limits."""
    if not limits:
        return {}
    least: dict[tuple[LimitKey, str], int] = {}
    for limit in limits:
        key = limit.key, limit.principal
        least[key] = min(limit.calls, least.get(key, limit.calls))
    per_user = {
        name: calls
        for (key, name), calls in sorted(least.items())
        if key is LimitKey.USER or (key is LimitKey.SERVICE_PRINCIPAL and name)
    }
    per_group = {name: calls for (key, name), calls in sorted(least.items()) if key is LimitKey.USER_GROUP and name}
    descriptors = [_bucket_of(_USER, name, calls) for name, calls in per_user.items()]
    descriptors += [_bucket_of(f"group {name}", "member", calls) for name, calls in per_group.items()]
    actions = [_user()] if per_user else []
    actions += [_member(name, per_user.keys() - {""}) for name in per_group]
    message = LocalRateLimit(
        stat_prefix=names.RATE_FILTER,
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        token_bucket=_bucket(least.get((LimitKey.ENDPOINT, ""), _NO_LIMIT)),
        descriptors=descriptors,
        rate_limits=[Descriptor(actions=[action]) for action in actions],
        max_dynamic_descriptors=USERS_COUNTED,
    )
    # `enable_retry_after_header` (19) is newer than envoy-data-plane.
    value = encode(message) + varint(19 << 3) + varint(1)
    return {names.RATE_FILTER: Any(type_url=pack(message).type_url, value=value)}


_USER = "user"


def _bucket_of(key: str, value: str, calls: int) -> LocalRateLimitDescriptor:
    """A bucket for one value of a key, or one for each when the value is ""."""
    return LocalRateLimitDescriptor(
        entries=[RateLimitDescriptorEntry(key=key, value=value)], token_bucket=_bucket(calls)
    )


def _bucket(calls: int) -> TokenBucket:
    return TokenBucket(max_tokens=calls, tokens_per_fill=calls, fill_interval=seconds(60))


def _user() -> RateLimitAction:
    return RateLimitAction(request_headers=RateLimitActionRequestHeaders(header_name=USER_HEADER, descriptor_key=_USER))


def _member(group: str, exempt: Iterable[str]) -> RateLimitAction:
    """Marks calls of a group's members, except those who have a limit of their own: that one counts instead."""
    user, groups = (f"request.headers[{json.dumps(header)}]" for header in (USER_HEADER, GROUPS_HEADER))
    counted = f"!({user} in {json.dumps(sorted(exempt))})"
    if group != EVERYONE:  # everybody is in that one, and tokens do not say so
        counted = f"{groups}.contains({json.dumps(member(group))}) && {counted}"
    expression = Expression(descriptor_key=f"group {group}", skip_if_error=True, text=f"{counted} ? 'member' : 'other'")
    return RateLimitAction(
        extension=TypedExtensionConfig(name="envoy.rate_limit_descriptors.expr", typed_config=pack(expression))
    )
