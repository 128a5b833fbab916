"""Access log and traces in the listener: there when they are asked for, and else nothing of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from controlplane.domain import Address
from controlplane.settings import Settings
from controlplane.translate import access_log, tracing
from controlplane.translate.gateway import Gateway
from controlplane.translate.translate import translate_gateway

PLAIN = Gateway(public=Address(host="127.0.0.1", port=8080), api=(Address(path="/run/wye/api.sock"),))


def test_without_them_the_listener_is_what_it_was() -> None:
    """No cost when off: neither a logger nor a tracer nor a cluster."""
    assert access_log.loggers(PLAIN) == []
    assert tracing.tracing(PLAIN) is None
    assert tracing.clusters(PLAIN) == ()


@pytest.mark.parametrize(("where", "name"), [("stdout", "stdout"), ("/var/log/wye/access.log", "file")])
def test_the_log_goes_to_a_file_or_to_standard_output(where: str, name: str) -> None:
    """The same lines."""
    (logger,) = access_log.loggers(replace(PLAIN, access_log=where))
    assert logger.name == f"envoy.access_loggers.{name}"


def test_no_secret_is_logged() -> None:
    """Neither credentials nor cookies, nor a body."""
    asked = json.dumps(access_log.FIELDS).lower()
    assert not any(word in asked for word in ("authorization", "cookie", "body"))


@pytest.mark.parametrize(
    ("url", "host", "resolved"), [("http://10.0.0.1:4318", "10.0.0.1", False), ("http://otel:4318", "otel", True)]
)
def test_the_collector_is_a_cluster(url: str, host: str, resolved: bool) -> None:
    """By address, or by a name that is looked up."""
    resources = translate_gateway(replace(PLAIN, otlp=url))
    cluster = next(each for each in resources if each.name == "otlp-collector")
    assert host.encode() in cluster.body
    assert len(translate_gateway(PLAIN)) == len(resources) - 1
    assert tracing.tracing(replace(PLAIN, otlp=url)) is not None
    assert resolved == (not host[0].isdigit())


@pytest.mark.parametrize("url", ["localhost:4318", "https://otel:4318", "http://", "http://otel:x", "grpc://otel:4317"])
def test_an_address_that_is_none_is_refused_at_the_start(url: str) -> None:
    """With what to say instead."""
    with pytest.raises(ValueError, match=r"WYE_OTLP_ENDPOINT=.*say http://<host>:<port>"):
        Settings.read({"WYE_OTLP_ENDPOINT": url})


def test_a_share_of_the_traces_is_from_0_to_100() -> None:
    """And a slash at the end of the address is not doubled."""
    with pytest.raises(ValueError, match="WYE_TRACE_PERCENT=101 is not from 0 to 100"):
        Settings.read({"WYE_TRACE_PERCENT": "101"})
    assert Settings.read({"WYE_OTLP_ENDPOINT": "http://otel:4318/"}).otlp_endpoint == "http://otel:4318"
