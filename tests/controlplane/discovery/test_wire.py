"""Bytes on the wire, against the generated Envoy API."""

from __future__ import annotations

import datetime as dt

import pytest
from envoy_data_plane.envoy.config.core.v3 import BuildVersion, Extension
from envoy_data_plane.envoy.config.core.v3 import Node as EnvoyNode
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from envoy_data_plane.envoy.type.v3 import SemanticVersion
from envoy_data_plane.google.protobuf import Any
from envoy_data_plane.google.rpc import Status

from controlplane.discovery.messages import DeltaRequest, InvalidRequestError, Node, Response, SotwRequest, Variant
from controlplane.discovery.testing import encode_request, parse_response
from controlplane.discovery.wire import encode, parse_delta, parse_sotw
from tests.controlplane.discovery.rig import CDS, EDS, resource

NODE = EnvoyNode(
    id="envoy-1",
    cluster="gateway",
    user_agent_name="envoy",
    user_agent_build_version=BuildVersion(version=SemanticVersion(major_number=1, minor_number=40, patch=0)),
    extensions=[Extension(name=f"envoy.filters.{number}", category="envoy.filters.http") for number in range(500)],
)
SAME = Node("envoy-1", "gateway", "envoy", "1.40.0")


def test_delta_request() -> None:
    """A delta request of the generated API is read as what it says."""
    message = DeltaDiscoveryRequest(
        node=NODE,
        type_url=CDS,
        resource_names_subscribe=["a", "*"],
        resource_names_unsubscribe=["b"],
        initial_resource_versions={"a": "1", "c": "2"},
        response_nonce="7",
        error_detail=Status(code=13, message="no"),
    )
    expected = DeltaRequest(CDS, ("a", "*"), ("b",), {"a": "1", "c": "2"}, "7", "no", SAME)
    assert parse_delta(bytes(message)) == expected


def test_sotw_request() -> None:
    """A state-of-the-world request of the generated API is read as what it says."""
    message = DiscoveryRequest(node=NODE, type_url=EDS, resource_names=["a", "b"], response_nonce="7", version_info="3")
    assert parse_sotw(bytes(message)) == SotwRequest(EDS, ("a", "b"), "7", None, SAME, "3")


def test_refusal_without_words() -> None:
    """A refusal is a refusal even if it has no words."""
    assert parse_delta(bytes(DeltaDiscoveryRequest(error_detail=Status(code=13)))).error == ""
    assert parse_delta(bytes(DeltaDiscoveryRequest())).error is None


@pytest.mark.parametrize("parse", [parse_delta, parse_sotw])
def test_no_request_at_all(parse: type) -> None:
    """Bytes that are no request are refused in words."""
    with pytest.raises(InvalidRequestError, match=r"not a .*DiscoveryRequest"):
        parse(b"\xff\xff\xff")


def test_delta_response() -> None:
    """The generated API reads a delta response as what was meant, frames and all."""
    one, two = resource(CDS, "a", "x" * 300), resource(CDS, "b")
    data = encode(Variant.DELTA, Response(CDS, "12", "n-1", [one, two], ["gone", "too"]), b"wye")
    message = DeltaDiscoveryResponse.parse(data)
    assert (message.type_url, message.system_version_info, message.nonce) == (CDS, "12", "n-1")
    assert [(each.name, each.version) for each in message.resources] == [("a", one.version), ("b", two.version)]
    assert message.resources[0].resource == Any(type_url=CDS, value=one.body)
    assert message.removed_resources == ["gone", "too"]
    assert message.control_plane is not None
    assert message.control_plane.identifier == "wye"


def test_sotw_response() -> None:
    """The generated API reads a state-of-the-world response as what was meant."""
    one = resource(EDS, "a", "x")
    message = DiscoveryResponse.parse(encode(Variant.SOTW, Response(EDS, "12", "n-1", [one]), b"wye"))
    assert (message.type_url, message.version_info, message.nonce) == (EDS, "12", "n-1")
    assert message.resources == [Any(type_url=EDS, value=one.body)]
    assert message.control_plane is not None
    assert message.control_plane.identifier == "wye"


@pytest.mark.parametrize("variant", list(Variant))
def test_the_fake_speaks_the_same(variant: Variant) -> None:
    """What the fake client writes we read, and what we write it reads."""
    request = (
        DeltaRequest(CDS, ("a",), ("b",), {"c": "1"}, "7", "no", SAME)
        if variant is Variant.DELTA
        else SotwRequest(CDS, ("a", "b"), "7", None, SAME, "3")
    )
    parse = parse_delta if variant is Variant.DELTA else parse_sotw
    assert parse(encode_request(request)) == request
    one = resource(CDS, "a", "x")
    received = parse_response(variant, encode(variant, Response(CDS, "12", "n", [one], ()), b""))
    assert [(each.name, each.version, each.body) for each in received.resources] == [("a", one.version, one.body)]


def test_request_of_a_great_envoy_is_cheap() -> None:
    """Parsing a first request with five hundred extensions costs far less than the generated API's millisecond or more."""
    data = bytes(DeltaDiscoveryRequest(node=NODE, type_url=CDS))
    begin = dt.datetime.now(tz=dt.UTC)
    for _ in range(100):
        parse_delta(data)
    assert dt.datetime.now(tz=dt.UTC) - begin < dt.timedelta(milliseconds=500)
