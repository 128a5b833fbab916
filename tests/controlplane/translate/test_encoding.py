"""The encoder gives betterproto2's own bytes, in less time."""

from __future__ import annotations

import datetime as dt

import betterproto2
import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterCommonLbConfig, ClusterLbPolicy
from envoy_data_plane.envoy.config.core.v3 import HealthStatus, Metadata
from envoy_data_plane.envoy.config.endpoint.v3 import LbEndpoint
from envoy_data_plane.envoy.config.route.v3 import (
    RetryPolicy,
    RetryPolicyRetryBackOff,
    Route,
    RouteAction,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Struct, Value

from controlplane.translate.encoding import encode

MESSAGES: dict[str, betterproto2.Message] = {
    "empty": Cluster(),
    "text, also beyond ASCII": Cluster(name="zürich/€"),
    "long enough for a length of two bytes": Cluster(name="x" * 300),
    "enumeration": Cluster(lb_policy=ClusterLbPolicy.LEAST_REQUEST),
    "enumeration at zero": LbEndpoint(health_status=HealthStatus.UNKNOWN),
    "duration": Cluster(connect_timeout=dt.timedelta(seconds=1, milliseconds=250)),
    "duration of zero is there": ClusterCommonLbConfig(update_merge_window=dt.timedelta(0)),
    "empty message is there": ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0.0)),
    "double": Percent(value=12.5),
    "wrapped number, zero included": RetryPolicy(num_retries=0),
    "boolean": Cluster(ignore_health_on_host_removal=True),
    "member of a oneof at its zero value": RouteMatch(prefix=""),
    "list of messages": VirtualHost(
        name="v", domains=["a", "b"], routes=[Route(), Route(route=RouteAction(cluster="c"))]
    ),
    "list of numbers": RetryPolicy(retriable_status_codes=[1, 0, 70000]),
    "nested": RetryPolicy(retry_back_off=RetryPolicyRetryBackOff(base_interval=dt.timedelta(milliseconds=25))),
    "map of messages": Metadata(filter_metadata={"b": Struct(fields={"x": Value(number_value=1.0)}), "a": Struct()}),
    "negative number": Value(number_value=-0.5),
    "fields it does not know": Cluster.parse(b"\xf2\xff\x03\x01z" + bytes(Cluster(name="c"))),
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_bytes_are_those_of_betterproto2(message: betterproto2.Message) -> None:
    """Every kind of field."""
    assert encode(message) == bytes(message)


def test_a_oneof_still_takes_one_member_only() -> None:
    """The constructors' validation is betterproto2's own, though what it asks for each field is answered from memory."""
    with pytest.raises(ValueError, match="more than one"):
        RouteMatch(prefix="/a", path="/b")
