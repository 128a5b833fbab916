"""Documents: what is encoded comes back equal, also what an older release wrote."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain import (
    Endpoint,
    EndpointConfig,
    EntitySpec,
    Grant,
    LimitKey,
    Outcome,
    Permission,
    PrincipalKind,
    RateLimit,
    ServedEntity,
    Tag,
    TrafficRoute,
    UpdateState,
    WorkloadSize,
)
from controlplane.store.codec import decode_config, decode_endpoint, encode_config, encode_endpoint

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBER = st.integers(0, 2**53)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple)
SPECS = st.builds(
    EntitySpec,
    name=TEXT,
    entity_name=TEXT,
    entity_version=TEXT,
    workload_size=st.none() | st.sampled_from(WorkloadSize),
    workload_type=TEXT,
    scale_to_zero_enabled=st.booleans(),
    min_provisioned_concurrency=st.none() | NUMBER,
    max_provisioned_concurrency=st.none() | NUMBER,
    environment_vars=PAIRS,
    alias=TEXT,
    echoed=PAIRS,
)
ENTITIES = st.builds(ServedEntity, SPECS, NUMBER, TEXT, TEXT, NUMBER)
CONFIGS = st.builds(
    EndpointConfig,
    version=NUMBER,
    entities=st.lists(ENTITIES, max_size=3).map(tuple),
    traffic=st.lists(st.builds(TrafficRoute, TEXT, st.integers(0, 100)), max_size=3).map(tuple),
    started_ms=NUMBER,
    echoed=PAIRS,
)
GRANTS = st.lists(st.builds(Grant, st.sampled_from(PrincipalKind), TEXT, st.sampled_from(Permission)), max_size=2).map(
    tuple
)
LIMITS = st.lists(st.builds(RateLimit, NUMBER, st.sampled_from(LimitKey), TEXT), max_size=2).map(tuple)
ENDPOINTS = st.builds(
    Endpoint,
    id=TEXT,
    name=TEXT,
    creator=TEXT,
    created_ms=NUMBER,
    updated_ms=NUMBER,
    update=st.sampled_from(UpdateState),
    active=st.none() | CONFIGS,
    pending=st.none() | CONFIGS,
    outcomes=st.lists(st.builds(Outcome, TEXT, st.booleans(), TEXT), max_size=2).map(tuple),
    description=TEXT,
    tags=st.lists(st.builds(Tag, TEXT, TEXT), max_size=2).map(tuple),
    route_optimized=st.booleans(),
    suspended=st.booleans(),
    grants=GRANTS,
    rate_limits=LIMITS,
    gateway_limits=LIMITS,
    echoed=PAIRS,
    revision=NUMBER,
)


@settings(deadline=None)
@given(ENDPOINTS)
def test_an_endpoint_comes_back_equal(endpoint: Endpoint) -> None:
    """Decoding what was encoded gives an equal endpoint, tuples and enums included."""
    decoded = decode_endpoint(encode_endpoint(endpoint))
    assert decoded == endpoint
    assert hash(decoded) == hash(endpoint)


@settings(deadline=None)
@given(CONFIGS)
def test_a_config_comes_back_equal(config: EndpointConfig) -> None:
    """Decoding what was encoded gives an equal config."""
    assert decode_config(encode_config(config)) == config


def test_fields_that_an_older_release_did_not_write_get_their_defaults() -> None:
    """A document with only the fields that every release wrote is readable."""
    entity = {
        "spec": {"name": "a", "entity_name": "m", "entity_version": "1", "workload_size": "Small"},
        "generation": 1,
        "artifact_uri": "/a",
        "creator": "me",
        "created_ms": 1,
    }
    config = {"version": 1, "entities": [entity], "traffic": [["a", 100]], "started_ms": 1}
    head = {"id": "i", "name": "e", "creator": "me", "created_ms": 1, "updated_ms": 2, "revision": 3}
    decoded = decode_endpoint(json.dumps({**head, "update": "NOT_UPDATING", "active": config}))
    served = ServedEntity(EntitySpec("a", "m", "1"), 1, "/a", "me", 1)
    active = EndpointConfig(1, (served,), (TrafficRoute("a", 100),), 1)
    assert decoded == Endpoint("i", "e", "me", 1, 2, UpdateState.NOT_UPDATING, active, revision=3)
