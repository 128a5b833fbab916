"""Endpoints as clients read them, checked field by field and with the Databricks SDK's own classes."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from databricks.sdk.service.serving import (
    EndpointStateConfigUpdate,
    EndpointStateReady,
    ServedModelStateDeployment,
    ServingEndpoint,
    ServingEndpointDetailed,
)

from controlplane.domain import (
    Deployment,
    Endpoint,
    EntitySpec,
    LimitKey,
    Outcome,
    PastConfig,
    Permission,
    Phase,
    RateLimit,
    Replica,
    ServedEntity,
    Tag,
    TrafficRoute,
    UpdateState,
)
from controlplane.rollout import lifecycle
from controlplane.schema import config_version, endpoint_details, endpoint_summary, rate_limits

SPECS = (
    EntitySpec("current", "churn", "3"),
    EntitySpec(
        "challenger",
        "churn",
        "4",
        workload_size=None,
        min_provisioned_concurrency=4,
        max_provisioned_concurrency=8,
        environment_vars=(("A", "1"),),
        echoed=(("burst_scaling_enabled", "true"), ("instance_profile_arn", '"arn"')),
    ),
)
TRAFFIC = (TrafficRoute("current", 90), TrafficRoute("challenger", 10))
ARTIFACTS = {("churn", "3"): "/m/3", ("churn", "4"): "/m/4", ("churn", "5"): "/m/5"}


def created() -> Endpoint:
    """An endpoint whose first config is pending."""
    endpoint = lifecycle.create(
        endpoint_id="c5f0" * 8,
        name="churn",
        creator="me@corp.example",
        now_ms=1_739_900_000_000,
        description="d",
        tags=[Tag("team", "a")],
        echoed=(("ai_gateway", '{"usage_tracking_config":{"enabled":true}}'), ("rate_limits", "[]")),
    )
    return lifecycle.begin_update(
        endpoint, SPECS, TRAFFIC, ARTIFACTS, creator="me@corp.example", now_ms=1_739_900_000_001
    )


def live() -> Endpoint:
    """The same endpoint once that config is active."""
    return lifecycle.succeed(created(), 1_739_900_000_002)


def updating() -> Endpoint:
    """The same endpoint while `challenger` gets a new version."""
    specs = (SPECS[0], replace(SPECS[1], entity_version="5"))
    return lifecycle.begin_update(live(), specs, TRAFFIC, ARTIFACTS, creator="you", now_ms=1_739_900_000_003)


def replica(endpoint: Endpoint, entity: ServedEntity, phase: Phase = Phase.READY, message: str = "") -> Replica:
    """A replica of that entity."""
    deployment = Deployment(endpoint.id, entity.name, entity.generation)
    return Replica(f"{entity.name}-{entity.generation}", deployment, phase, message=message)


def ready(endpoint: Endpoint) -> tuple[Replica, ...]:
    """One ready replica for each active entity."""
    assert endpoint.active is not None
    return tuple(replica(endpoint, entity) for entity in endpoint.active.entities)


def test_the_create_answer_field_by_field() -> None:
    """A new endpoint reads as in the reference: pending, both spellings mirrored, no config, numbers as numbers."""
    state = {
        "deployment": "DEPLOYMENT_CREATING",
        "deployment_state_message": "Creating resources for served entity.",
    }
    made = {"creator": "me@corp.example", "creation_timestamp": 1_739_900_000_001, "state": state}
    current = {"workload_size": "Small", "workload_type": "CPU", "scale_to_zero_enabled": False, **made}
    challenger = {
        "workload_type": "CPU",
        "scale_to_zero_enabled": False,
        "min_provisioned_concurrency": 4,
        "max_provisioned_concurrency": 8,
        "environment_vars": {"A": "1"},
        "instance_profile_arn": "arn",
        **made,
    }
    assert endpoint_details(created(), ()) == {
        "name": "churn",
        "id": "c5f0" * 8,
        "creator": "me@corp.example",
        "creation_timestamp": 1_739_900_000_000,
        "last_updated_timestamp": 1_739_900_000_001,
        "state": {"ready": "NOT_READY", "config_update": "IN_PROGRESS", "suspend": "NOT_SUSPENDED"},
        "tags": [{"key": "team", "value": "a"}],
        "description": "d",
        "pending_config": {
            "start_time": 1_739_900_000_001,
            "config_version": 1,
            "served_entities": [
                {"name": "current", "entity_name": "churn", "entity_version": "3", **current},
                {"name": "challenger", "entity_name": "churn", "entity_version": "4", **challenger},
            ],
            "served_models": [
                {"name": "current", "model_name": "churn", "model_version": "3", **current},
                {"name": "challenger", "model_name": "churn", "model_version": "4", **challenger},
            ],
            "traffic_config": {
                "routes": [
                    {"served_model_name": "current", "served_entity_name": "current", "traffic_percentage": 90},
                    {"served_model_name": "challenger", "served_entity_name": "challenger", "traffic_percentage": 10},
                ]
            },
        },
        "ai_gateway": {"usage_tracking_config": {"enabled": True}},
        "permission_level": "CAN_MANAGE",
        "route_optimized": False,
    }


def test_after_success_the_config_is_active() -> None:
    """A live endpoint has its config, no pending one, and is READY once every entity has a replica that is."""
    endpoint = live()
    answer = endpoint_details(endpoint, ready(endpoint))
    assert answer["state"]["ready"] == "READY"
    assert answer["state"]["config_update"] == "NOT_UPDATING"
    assert "pending_config" not in answer
    assert "start_time" not in answer["config"]
    assert answer["config"]["served_entities"][1]["state"] == {
        "deployment": "DEPLOYMENT_READY",
        "deployment_state_message": "",
    }


def test_during_an_update_both_configs_are_shown() -> None:
    """The active config stays READY beside the pending one, whose unchanged entities are READY as well."""
    endpoint = updating()
    assert endpoint.pending is not None
    starting = replica(endpoint, endpoint.pending.entities[1], Phase.STARTING, "installing requirements")
    detailed = ServingEndpointDetailed.from_dict(endpoint_details(endpoint, (*ready(endpoint), starting)))
    assert detailed.state is not None
    assert detailed.state.ready is EndpointStateReady.READY
    assert detailed.state.config_update is EndpointStateConfigUpdate.IN_PROGRESS
    assert detailed.config is not None
    assert detailed.pending_config is not None
    assert (detailed.config.config_version, detailed.pending_config.config_version) == (1, 2)
    states = [
        (entity.state.deployment, entity.state.deployment_state_message)
        for entity in detailed.pending_config.served_entities
    ]
    assert states == [
        (ServedModelStateDeployment.DEPLOYMENT_READY, ""),
        (ServedModelStateDeployment.DEPLOYMENT_CREATING, "installing requirements"),
    ]


def test_after_a_failed_update_the_reason_stays() -> None:
    """The pending config stays with FAILED and ABORTED entities and their reasons; the active one is as it was."""
    endpoint = updating()
    outcomes = [Outcome("current", failed=False, message=""), Outcome("challenger", failed=True, message="no module x")]
    failed = lifecycle.fail(endpoint, outcomes, 5)
    answer = endpoint_details(failed, ready(endpoint))
    assert answer["state"] == {"ready": "READY", "config_update": "UPDATE_FAILED", "suspend": "NOT_SUSPENDED"}
    assert answer["config"] == endpoint_details(live(), ready(endpoint))["config"]
    assert answer["pending_config"]["start_time"] == 1_739_900_000_003
    assert [entity["state"] for entity in answer["pending_config"]["served_models"]] == [
        {
            "deployment": "DEPLOYMENT_ABORTED",
            "deployment_state_message": "Served model creation aborted because the endpoint update did not succeed.",
        },
        {"deployment": "DEPLOYMENT_FAILED", "deployment_state_message": "no module x"},
    ]


@pytest.mark.parametrize(
    ("phase", "message", "shown"),
    [
        (Phase.FAILED, "out of memory", "out of memory"),
        (Phase.STARTING, "", "No replica is running; one will be started."),
        (Phase.STOPPING, "asked to", "No replica is running; one will be started."),
    ],
)
def test_an_active_entity_without_a_ready_replica_recovers(phase: Phase, message: str, shown: str) -> None:
    """It says RECOVERING with its replica's last words, and the endpoint is NOT_READY."""
    endpoint = live()
    assert endpoint.active is not None
    current, challenger = endpoint.active.entities
    answer = endpoint_details(endpoint, (replica(endpoint, current), replica(endpoint, challenger, phase, message)))
    assert answer["state"]["ready"] == "NOT_READY"
    assert [entity["state"] for entity in answer["config"]["served_entities"]] == [
        {"deployment": "DEPLOYMENT_READY", "deployment_state_message": ""},
        {"deployment": "DEPLOYMENT_RECOVERING", "deployment_state_message": shown},
    ]


def test_an_active_entity_that_keeps_crashing_has_failed() -> None:
    """Also while it is being started once more: how often it has failed, that it is tried on, and its last words."""
    endpoint = live()
    assert endpoint.active is not None
    crashing = [
        dataclasses.replace(
            replica(endpoint, entity, Phase.STARTING, "loading model"), crashes=crashes, last_words="no disk"
        )
        for entity, crashes in zip(endpoint.active.entities, (2, 3), strict=True)
    ]
    said = [entity["state"] for entity in endpoint_details(endpoint, crashing)["config"]["served_entities"]]
    assert said == [
        {"deployment": "DEPLOYMENT_RECOVERING", "deployment_state_message": "loading model"},
        {
            "deployment": "DEPLOYMENT_FAILED",
            "deployment_state_message": (
                "It has failed 3 times in a row and is tried again at least each minute. Last words: no disk"
            ),
        },
    ]


def test_replicas_of_another_generation_do_not_count() -> None:
    """The replica of a replaced entity with the same name says nothing about the present one."""
    endpoint = live()
    assert endpoint.active is not None
    old = tuple(replica(endpoint, replace(entity, generation=7)) for entity in endpoint.active.entities)
    assert endpoint_details(endpoint, old)["state"]["ready"] == "NOT_READY"


def test_an_endpoint_without_a_config() -> None:
    """It is NOT_READY and NOT_UPDATING, and shows neither config."""
    endpoint = lifecycle.create(endpoint_id="1", name="e", creator="me", now_ms=1)
    answer = endpoint_details(endpoint, (), Permission.CAN_VIEW)
    assert answer["state"] == {"ready": "NOT_READY", "config_update": "NOT_UPDATING", "suspend": "NOT_SUSPENDED"}
    assert not {"config", "pending_config"} & set(answer)
    assert answer["permission_level"] == "CAN_VIEW"


def test_a_list_element_names_its_models_and_no_more() -> None:
    """The summary has identities only, and the SDK reads it."""
    endpoint = updating()
    answer = endpoint_summary(endpoint, ready(endpoint))
    assert answer["config"] == {
        "served_entities": [
            {"name": "current", "entity_name": "churn", "entity_version": "3"},
            {"name": "challenger", "entity_name": "churn", "entity_version": "4"},
        ],
        "served_models": [
            {"name": "current", "model_name": "churn", "model_version": "3"},
            {"name": "challenger", "model_name": "churn", "model_version": "4"},
        ],
    }
    assert not {"pending_config", "permission_level", "route_optimized", "rate_limits"} & set(answer)
    assert ServingEndpoint.from_dict(answer).state is not None


def test_a_config_version_of_the_history_has_no_condition() -> None:
    """The history shows what was asked for, with the version and the time."""
    config = live().active
    assert config is not None
    shown = config_version(PastConfig(config, UpdateState.UPDATE_FAILED, 7))
    assert (shown["config_version"], shown["start_time"], shown["end_time"]) == (1, 1_739_900_000_001, 7)
    assert shown["state"] == {"config_update": "UPDATE_FAILED"}
    assert all("state" not in entity for entity in shown["served_entities"] + shown["served_models"])


def test_a_rate_limit_names_whom_it_is_for() -> None:
    """The user whose calls are counted stands in it; where each user's are, nobody does."""
    limits = (RateLimit(2, LimitKey.USER), RateLimit(3, LimitKey.USER, "bob"))
    each, bobs = rate_limits(replace(live(), rate_limits=limits))
    assert each == {"calls": 2, "key": "user", "renewal_period": "minute"}
    assert bobs == {"calls": 3, "key": "user", "principal": "bob", "renewal_period": "minute"}


def test_what_is_kept_of_the_config_is_shown_with_it() -> None:
    """An auto capture config is given back inside the config, where its sender put it."""
    endpoint = live()
    assert endpoint.active is not None
    config = replace(endpoint.active, echoed=(("auto_capture_config", '{"enabled":false}'),))
    endpoint = replace(endpoint, active=config)
    answer = endpoint_details(endpoint, ())
    assert answer["config"]["auto_capture_config"] == {"enabled": False}
    assert "auto_capture_config" not in answer
