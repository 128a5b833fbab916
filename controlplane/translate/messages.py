"""Small pieces that several builders need, over envoy-data-plane's message classes."""

from __future__ import annotations

import datetime as dt
from functools import cache, lru_cache
from typing import Any as Json
from typing import cast

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import (
    Address as EnvoyAddress,
)
from envoy_data_plane.envoy.config.core.v3 import (
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Pipe,
    SocketAddress,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any, ListValue, NullValue, Struct, Value
from envoy_data_plane.message_pool import default_message_pool

from controlplane.domain import Address
from controlplane.translate.encoding import encode
from controlplane.translate.resource import Resource

#: "Get it over the aggregated stream."
ADS = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def seconds(value: float) -> dt.timedelta:
    """A protobuf Duration."""
    return dt.timedelta(seconds=value)


def resource(type_url: str, name: str, message: betterproto2.Message, refs: frozenset[str] = frozenset()) -> Resource:
    """The message as a resource of that name."""
    return Resource.of(type_url, name, encode(message), refs)


def pack(message: betterproto2.Message) -> Any:
    """The message inside an Any."""
    return Any(type_url=default_message_pool.type_to_url[type(message)], value=encode(message))


def address(where: Address) -> EnvoyAddress:
    """Where something listens, for Envoy."""
    if where.path:
        return EnvoyAddress(pipe=Pipe(path=where.path))
    return EnvoyAddress(socket_address=SocketAddress(address=where.host, port_value=where.port))


@lru_cache(maxsize=4096)
def set_header(name: str, value: str) -> HeaderValueOption:
    """A header that replaces whatever was there under its name."""
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


@cache
def is_post() -> HeaderMatcher:
    """What a route asks of a request that is to be a POST."""
    return HeaderMatcher(name=":method", string_match=StringMatcher(exact="POST"))


def error_body(code: str, message: str) -> SubstitutionFormatString:
    """An error answer made by Envoy, in the shape of the API's own; `%…%` in `message` is substituted and escaped."""
    return SubstitutionFormatString(
        json_format=struct(
            {
                "error_code": code,
                "message": message,
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.RequestInfo",
                        "request_id": "%REQ(X-REQUEST-ID)%",
                        "serving_data": "",
                    }
                ],
            }
        ),
        content_type="application/json",
    )


def literal(text: str) -> str:
    """`text` as a part of a format string: a percent sign stands for itself."""
    return text.replace("%", "%%")


def struct(values: dict[str, Json]) -> Struct:
    """A JSON object."""
    return Struct(fields={key: _value(value) for key, value in values.items()})


def _value(value: Json) -> Value:
    if value is None:
        return Value(null_value=NullValue.NULL_VALUE)
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, (int, float)):
        return Value(number_value=float(value))
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, dict):
        return Value(struct_value=struct(value))
    return Value(list_value=ListValue(values=[_value(item) for item in cast("list[Json]", value)]))
