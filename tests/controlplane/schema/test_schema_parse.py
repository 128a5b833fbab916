"""Bodies to values: both spellings, defaults, and every problem at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain import EntitySpec, ProblemCode, ProblemError, Tag, TrafficRoute, WorkloadSize
from controlplane.schema import ConfigRequest, CreateRequest, parse_config, parse_create
from controlplane.schema.entities import default_name

T = TypeVar("T")

NEW: dict[str, Any] = {
    "served_entities": [
        {"name": "current", "entity_name": "churn", "entity_version": "3", "workload_size": "Small"},
        {"name": "challenger", "entity_name": "churn", "entity_version": "4", "scale_to_zero_enabled": True},
    ],
    "traffic_config": {
        "routes": [
            {"served_entity_name": "current", "traffic_percentage": 90},
            {"served_entity_name": "challenger", "traffic_percentage": 10},
        ]
    },
}
OLD: dict[str, Any] = {
    "served_models": [
        {"name": "current", "model_name": "churn", "model_version": 3, "scale_to_zero_enabled": False},
        {"name": "challenger", "model_name": "churn", "model_version": 4, "scale_to_zero_enabled": "True"},
    ],
    "traffic_config": {
        "routes": [
            {"served_model_name": "current", "traffic_percentage": "90"},
            {"served_model_name": "challenger", "traffic_percentage": "10"},
        ]
    },
}
ONE = {"served_entities": [{"entity_name": "churn", "entity_version": "3"}]}


def problems(body: dict[str, Any]) -> dict[str, str]:
    """The messages with which a config is refused, by path."""
    with pytest.raises(ProblemError) as caught:
        parse_config(body)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_both_spellings_mean_the_same() -> None:
    """Old and new field names, strings and numbers give equal configs."""
    new, old = parse_config(NEW), parse_config(OLD)
    assert new.entities == old.entities
    assert new.traffic == old.traffic == (TrafficRoute("current", 90), TrafficRoute("challenger", 10))
    assert (new.paths[1], old.paths[1]) == ("served_entities[1]", "served_models[1]")


def test_defaults_are_filled_in() -> None:
    """One model without anything else gets a name, a size, and all traffic."""
    assert parse_config(ONE) == ConfigRequest(
        entities=(EntitySpec("churn-3", "churn", "3", WorkloadSize.SMALL, "CPU", scale_to_zero_enabled=False),),
        traffic=(TrafficRoute("churn-3", 100),),
        paths=("served_entities[0]",),
    )


def test_all_submitted_fields_are_taken_over() -> None:
    """Concurrency, type, environment, and what is only kept are in the value."""
    body = {
        "served_entities": [
            {
                "entity_name": "main.prod.churn",
                "entity_version": 7,
                "min_provisioned_concurrency": 4,
                "max_provisioned_concurrency": "12",
                "workload_type": "GPU_SMALL",
                "environment_vars": {"B": "2", "A": "{{secrets/s/k}}"},
                "instance_profile_arn": "arn:aws:iam::1:instance-profile/p",
                "unheard_of": [1],
            }
        ],
        "auto_capture_config": {"schema_name": "s", "catalog_name": "c"},
        "name": "ignored",
    }
    config = parse_config(body)
    assert config.entities == (
        EntitySpec(
            name="churn-7",
            entity_name="main.prod.churn",
            entity_version="7",
            workload_size=None,
            workload_type="GPU_SMALL",
            min_provisioned_concurrency=4,
            max_provisioned_concurrency=12,
            environment_vars=(("A", "{{secrets/s/k}}"), ("B", "2")),
            echoed=(("instance_profile_arn", '"arn:aws:iam::1:instance-profile/p"'),),
        ),
    )
    assert config.echoed == (("auto_capture_config", '{"catalog_name":"c","schema_name":"s"}'),)


def test_a_create_body_is_read_in_full() -> None:
    """The endpoint's own fields are read; of two tags with one key the last one counts."""
    body = {
        "name": "churn",
        "config": {"name": "churn", **ONE},
        "description": "d",
        "route_optimized": True,
        "tags": [{"key": "team", "value": "a"}, {"key": "x"}, {"key": "team", "value": "b"}],
        "ai_gateway": {"usage_tracking_config": {"enabled": True}},
        "email_notifications": None,
    }
    assert parse_create(body) == CreateRequest(
        name="churn",
        config=_at("config", ONE),
        description="d",
        tags=(Tag("team", "b"), Tag("x")),
        route_optimized=True,
        echoed=(("ai_gateway", '{"usage_tracking_config":{"enabled":true}}'),),
    )


def _at(prefix: str, body: dict[str, Any]) -> ConfigRequest:
    config = parse_config(body)
    paths = tuple(f"{prefix}.{path}" for path in config.paths)
    return ConfigRequest(config.entities, config.traffic, paths, config.echoed)


@pytest.mark.parametrize(
    "config",
    [{}, None, {"name": "e"}, {"served_entities": []}, {"served_models": [], "traffic_config": {}}],
)
def test_an_endpoint_may_be_created_without_a_config(config: object) -> None:
    """No config, and one with nothing in it, make an endpoint that serves nothing yet."""
    assert parse_create({"name": "e", "config": config}) == CreateRequest("e", None)


@pytest.mark.parametrize(
    ("written", "percent"),
    [(100, 100), ("100", 100), (100.0, 100), (" 100 ", 100)],
)
def test_percentages_may_be_written_in_several_ways(written: object, percent: int) -> None:
    """Strings and whole floats count as the integers they say."""
    body = {**ONE, "traffic_config": {"routes": [{"served_model_name": "churn-3", "traffic_percentage": written}]}}
    assert parse_config(body).traffic == (TrafficRoute("churn-3", percent),)


@pytest.mark.parametrize("written", [True, 50.5, "50%", "", [], {}, "١"])
def test_what_is_no_whole_number_is_no_percentage(written: object) -> None:
    """Anything but a whole number is refused at its place."""
    body = {**ONE, "traffic_config": {"routes": [{"served_model_name": "churn-3", "traffic_percentage": written}]}}
    path = "traffic_config.routes[0].traffic_percentage"
    assert problems(body)[path].startswith("must be a whole number, not ")


def test_all_problems_are_reported_at_once() -> None:
    """One answer names every mistake, each with the path of the field that has to change."""
    body = {
        "name": "databricks-x",
        "description": "d" * 1001,
        "tags": [{"value": "v"}, 3],
        "config": {
            "served_entities": [
                {"name": "a b", "entity_name": "churn", "entity_version": "1.5", "workload_size": "Huge"},
                {"entity_version": 3, "environment_vars": {"A": 1}},
                "current",
            ],
            "traffic_config": {"routes": [{"traffic_percentage": 101}]},
        },
    }
    with pytest.raises(ProblemError) as caught:
        parse_create(body)
    assert [problem.path for problem in caught.value.problems] == [
        "name",
        "config.served_entities[2]",
        "config.served_entities[0].entity_version",
        "config.served_entities[0].name",
        "config.served_entities[0].workload_size",
        "config.served_entities[1].entity_name",
        "config.served_entities[1].environment_vars.A",
        "config.traffic_config.routes[0].served_model_name",
        "config.traffic_config.routes[0].traffic_percentage",
        "description",
        "tags[1]",
        "tags[0].key",
    ]
    assert caught.value.code is ProblemCode.INVALID_PARAMETER_VALUE


def test_a_missing_field_is_named_in_the_spelling_of_its_list() -> None:
    """Who writes served_models is told of model_name, not of entity_name."""
    assert set(problems({"served_models": [{}]})) == {"served_models[0].model_name", "served_models[0].model_version"}


def test_two_spellings_that_disagree_are_a_problem() -> None:
    """Both spellings of a field may be sent as long as they say the same."""
    entity = {"entity_name": "a", "model_name": "a", "entity_version": 1, "model_version": 2}
    assert problems({"served_entities": [entity]}) == {
        "served_entities[0].model_version": "says something else than entity_version; send one of the two"
    }


@pytest.mark.parametrize(
    "entity",
    [
        {"external_model": {"name": "gpt", "provider": "openai", "task": "llm/v1/chat"}},
        {"entity_name": "m", "entity_version": "1", "provisioned_model_units": 50},
        {"entity_name": "m", "entity_version": "1", "max_provisioned_throughput": 100},
    ],
)
def test_what_only_the_hosted_service_has_is_not_implemented(entity: dict[str, Any]) -> None:
    """External models and provisioned throughput are refused with NOT_IMPLEMENTED and one sentence."""
    with pytest.raises(ProblemError) as caught:
        parse_config({"served_entities": [entity]})
    assert [problem.code for problem in caught.value.problems] == [ProblemCode.NOT_IMPLEMENTED]


def test_zero_values_of_go_clients_count_as_missing() -> None:
    """Fields that a client force-sends empty change nothing."""
    entity = {
        **ONE["served_entities"][0],
        "name": "",
        "workload_size": "",
        "workload_type": "",
        "external_model": {},
        "max_provisioned_throughput": 0,
        "environment_vars": {},
    }
    assert parse_config({"served_entities": [entity], "served_models": []}) == parse_config(ONE)


@pytest.mark.parametrize(
    ("model", "name"),
    [("churn", "churn-3"), ("a.b.churn", "churn-3"), ("a.b", "a-b-3"), ("my model", "my-model-3")],
)
def test_default_names(model: str, name: str) -> None:
    """A served entity without a name is called by the last part of its model and the version."""
    assert default_name(model, "3") == name


_KEYS = st.sampled_from(
    [
        *("name", "config", "served_entities", "served_models", "traffic_config", "routes", "description", "tags"),
        *("entity_name", "model_name", "entity_version", "model_version", "workload_size", "workload_type"),
        *("scale_to_zero_enabled", "min_provisioned_concurrency", "max_provisioned_concurrency", "environment_vars"),
        *("served_model_name", "served_entity_name", "traffic_percentage", "key", "value", "external_model"),
        *("instance_profile_arn", "ai_gateway", "auto_capture_config", "provisioned_model_units", "zzz"),
    ]
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.sampled_from(["m", "m-1", "1", "100", "Small", "CPU", "true"]),
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=25,
)
_BODIES = st.dictionaries(_KEYS, _JSON, max_size=8)


@st.composite
def _nearly_right(draw: st.DrawFn) -> dict[str, Any]:
    """A config of the right shape in which any value may be wrong."""

    def maybe(strategy: st.SearchStrategy[Any]) -> Any:
        return draw(st.one_of(strategy, strategy, strategy, _JSON))

    names = st.sampled_from(["a", "b", "c"])
    entities = [
        {"name": maybe(names), "entity_name": maybe(st.just("m")), "entity_version": maybe(st.integers(1, 9))}
        for _ in range(draw(st.integers(0, 3)))
    ]
    routes = [
        {"served_model_name": maybe(names), "traffic_percentage": maybe(st.sampled_from([0, 50, 100]))}
        for _ in range(draw(st.integers(0, 3)))
    ]
    return {"served_entities": maybe(st.just(entities)), "traffic_config": maybe(st.just({"routes": routes}))}


def _read(parse: Callable[[dict[str, Any]], T], body: dict[str, Any]) -> T | None:
    try:
        return parse(body)
    except ProblemError as refusal:
        if not all(problem.message for problem in refusal.problems):
            raise
        return None


@settings(deadline=None)
@given(_BODIES | _nearly_right())
def test_any_config_body_is_a_config_or_problems(body: dict[str, Any]) -> None:
    """Whatever is sent, the answer is a config that keeps the rules, or problems that have words; never a crash."""
    config = _read(parse_config, body)
    if config is None:
        return
    names = [entity.name for entity in config.entities]
    assert 1 <= len(names) == len(set(names)) <= 15
    assert sorted(names) == sorted(route.served_entity for route in config.traffic)
    assert sum(route.percent for route in config.traffic) == 100
    assert len(config.paths) == len(names)


@settings(deadline=None)
@given(_BODIES, _BODIES | _nearly_right())
def test_any_create_body_is_an_endpoint_or_problems(body: dict[str, Any], config: dict[str, Any]) -> None:
    """Whatever is sent to create, the answer is a value or problems."""
    for candidate in (body, {"name": "e", **body, "config": config}):
        request = _read(parse_create, candidate)
        assert request is None or request.name
