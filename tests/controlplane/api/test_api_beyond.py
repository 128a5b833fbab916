"""What the original does not have: going back, calling off, create-or-update, dry runs, aliases; and stop and start."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controlplane.api.harness import PATH, Api, config


@pytest.fixture
def live(api: Api) -> Api:
    """An API with the endpoint `e`, whose first config is active."""
    assert api.client.post(PATH, json={"name": "e", "config": config()}).status_code == 200
    api.succeed("e")
    return api


def call(api: Api, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """A call below the endpoint `e` and its JSON."""
    answer = api.client.open(f"{PATH}/e{path}", method=method, json=body)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def versions(shown: Any) -> list[str]:
    """The model versions of a config."""
    return [entity["entity_version"] for entity in shown["served_entities"]]


def test_a_rollback_goes_to_the_last_version_that_served(live: Api) -> None:
    """Failed versions are passed over; the rollback is a version of its own, with its own history."""
    call(live, "PUT", "/config", config(version="5"))
    live.succeed("e")
    call(live, "PUT", "/config", config(10, version="3"))
    live.fail("e", "x")
    rolled = call(live, "POST", "/config:rollback")
    assert versions(rolled["pending_config"]) == ["3", "4"]
    assert rolled["pending_config"]["config_version"] == 4
    live.succeed("e")
    history = call(live, "GET", "/config-versions")["config_versions"]
    states = ["NOT_UPDATING", "NOT_UPDATING", "UPDATE_FAILED", "NOT_UPDATING"]
    assert [past["state"]["config_update"] for past in history] == states
    named = call(live, "POST", "/config:rollback", {"config_version": "2"})
    assert versions(named["pending_config"]) == ["3", "5"]


def test_a_rollback_needs_somewhere_to_go(live: Api) -> None:
    """Without an earlier version, or with one that never was, it is 404; with a wrong body 400; while updating 409."""
    assert "no earlier config version" in call(live, "POST", "/config:rollback", status=404)["message"]
    call(live, "POST", "/config:rollback", {"config_version": 7}, 404)
    call(live, "POST", "/config:rollback", {"config_version": "x"}, 400)
    call(live, "PUT", "/config", config(50))
    call(live, "POST", "/config:rollback", {"config_version": 1}, 409)


def test_an_update_is_called_off(live: Api) -> None:
    """The active config stays, the pending one is shown as aborted, and the next update may begin."""
    call(live, "POST", "/config:cancel", status=409)
    call(live, "PUT", "/config", config(version="5"))
    canceled = call(live, "POST", "/config:cancel")
    assert canceled["state"] == {"ready": "READY", "config_update": "UPDATE_CANCELED", "suspend": "NOT_SUSPENDED"}
    state = canceled["pending_config"]["served_entities"][1]["state"]
    assert (state["deployment"], "canceled" in state["deployment_state_message"]) == ("DEPLOYMENT_ABORTED", True)
    assert call(live, "PUT", "/config", config(50))["pending_config"]["config_version"] == 3


def test_stop_and_start(live: Api) -> None:
    """Stopping keeps the config and takes the readiness; starting deploys it anew under the next version."""
    assert call(live, "GET", "/ready") == {"name": "e", "ready": True}
    stopped = call(live, "POST", "/config:stop")
    assert "is not ready" in call(live, "GET", "/ready", status=400)["message"]
    assert stopped["state"] == {"ready": "NOT_READY", "config_update": "NOT_UPDATING", "suspend": "STOPPED"}
    assert call(live, "POST", "/config:stop") == stopped
    before = live.endpoints.get("e")
    started = call(live, "POST", "/config:start")
    assert started["state"]["suspend"] == "STOPPED"
    assert started["pending_config"]["config_version"] == 2
    after = live.endpoints.get("e")
    assert before is not None
    assert after is not None
    assert after.pending is not None
    assert {entity.generation for entity in after.pending.entities} == {2}, "none of its replicas is left to be reused"
    call(live, "POST", "/config:stop", status=409)
    live.succeed("e")
    running = {"ready": "READY", "config_update": "NOT_UPDATING", "suspend": "NOT_SUSPENDED"}
    assert call(live, "GET", "")["state"] == running
    call(live, "POST", "/config:start", status=400)


def test_stopping_needs_something_that_runs(api: Api) -> None:
    """An endpoint that never served cannot be stopped, nor one that is not there."""
    api.client.post(PATH, json={"name": "e"})
    call(api, "POST", "/config:stop", status=400)
    api.client.delete(f"{PATH}/e")
    for action in ("stop", "start", "cancel", "rollback"):
        call(api, "POST", f"/config:{action}", status=404)


def test_put_makes_then_changes_then_leaves_alone(api: Api) -> None:
    """What the body leaves out stays; what is so already stores nothing; what cannot change is refused."""
    body = {"config": config(), "description": "d", "tags": [{"key": "k", "value": "v"}]}
    assert call(api, "PUT", "", body)["pending_config"]["config_version"] == 1
    assert call(api, "PUT", "", body)["pending_config"]["config_version"] == 1, "it is on its way already"
    call(api, "PUT", "", {"config": config(50)}, 409)
    api.succeed("e")
    settled = call(api, "GET", "")
    stored = api.store.get("e")
    assert call(api, "PUT", "", body) == settled
    assert api.store.get("e") == stored
    changed = call(api, "PUT", "", {"name": "e", "description": "new", "ai_gateway": {"usage_tracking_config": {}}})
    assert (changed["description"], changed["tags"]) == ("new", settled["tags"])
    assert "pending_config" not in changed
    assert call(api, "PUT", "", {"config": config(50), "tags": []})["pending_config"]["config_version"] == 2
    assert call(api, "GET", "")["tags"] == []
    assert "cannot change" in call(api, "PUT", "", {"route_optimized": True}, 400)["message"]
    assert "keeps its name" in call(api, "PUT", "", {"name": "f"}, 400)["message"]


def test_a_dry_run_names_every_problem(live: Api) -> None:
    """Those of the body, of the registry and of the endpoint's state come at once, and nothing is stored."""
    before = live.store.endpoints()
    body = {"name": "databricks-x", "config": config(-1, version="99")}
    told = live.client.post(f"{PATH}?dry_run=true", json=body).get_json()
    assert (told["dry_run"], told["accepted"]) == (True, False)
    assert [(problem["field"], problem["error_code"]) for problem in told["problems"]] == [
        ("name", "INVALID_PARAMETER_VALUE"),
        ("config.traffic_config.routes[0].traffic_percentage", "INVALID_PARAMETER_VALUE"),
        ("config.traffic_config.routes[1].traffic_percentage", "INVALID_PARAMETER_VALUE"),
        ("config.served_entities[1]", "RESOURCE_DOES_NOT_EXIST"),
    ]
    taken = live.client.post(f"{PATH}?dry_run=true", json={"name": "e"}).get_json()
    assert [problem["error_code"] for problem in taken["problems"]] == ["RESOURCE_ALREADY_EXISTS"]
    assert live.client.post(f"{PATH}?dry_run=perhaps", json={"name": "f"}).status_code == 400
    assert live.store.endpoints() == before


def test_a_dry_run_tells_what_would_change(live: Api) -> None:
    """Per served entity what becomes of its replicas, per route and per field what was and what would be."""
    body = config(50, version="5")
    body["served_entities"].append({"name": "extra", "entity_name": "churn", "entity_version": "4"})
    body["traffic_config"]["routes"].append({"served_model_name": "extra", "traffic_percentage": 0})
    told = call(live, "PUT", "/config?dry_run=true", body)
    assert (told["accepted"], told["action"], told["config_version"]) == (True, "update", 2)
    assert {each["name"]: each["replicas"] for each in told["served_entities"]} == {
        "current": "keep",
        "challenger": "restart",
        "extra": "start",
    }
    assert told["served_entities"][1]["fields"] == [{"field": "entity_version", "before": "4", "after": "5"}]
    assert {route["served_model_name"]: (route["before"], route["after"]) for route in told["routes"]} == {
        "current": (90, 50),
        "challenger": (10, 50),
        "extra": (None, 0),
    }
    one = {"served_entities": body["served_entities"][:1]}
    told = call(live, "PUT", "?dry_run=true", {"config": one, "description": "new"})
    assert told["served_entities"][1]["replicas"] == "stop"
    assert told["fields"] == [{"field": "description", "before": "", "after": "new"}]
    assert call(live, "PUT", "?dry_run=true", {"config": config()})["action"] == "none"
    call(live, "PUT", "/config", config(50))
    assert call(live, "PUT", "/config?dry_run=true", one)["problems"][0]["error_code"] == "RESOURCE_CONFLICT"


def test_an_alias_is_looked_up_at_each_update(api: Api) -> None:
    """The version that it stands for is deployed and shown; the alias is shown beside it, and survives a new split."""
    api.registry.aliases = {"churn": {"champion": "3"}}
    body = {"served_entities": [{"entity_name": "churn", "entity_version": "@champion"}]}
    api.client.post(PATH, json={"name": "e", "config": body})
    api.succeed("e")
    (entity,) = call(api, "GET", "")["config"]["served_entities"]
    shown = (entity["name"], entity["entity_version"], entity["entity_version_alias"])
    assert shown == ("churn-champion", "3", "champion")
    again = {key: value for key, value in entity.items() if key not in {"state", "creator", "creation_timestamp"}}
    kept = call(api, "PUT", "/config", {"served_entities": [again]})["pending_config"]["served_entities"][0]
    assert kept["entity_version_alias"] == "champion"
    api.succeed("e")
    api.registry.aliases = {"churn": {"champion": "5"}}
    moved = call(api, "PUT", "/config", body)["pending_config"]
    assert versions(moved) == ["5"]
    live = api.client.post(f"{PATH}/e/config:cancel").get_json()
    assert live["config"]["served_models"][0]["model_version_alias"] == "champion"
    api.registry.aliases = {}
    assert "no alias '@champion'" in call(api, "PUT", "/config", body, 404)["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"burst_scaling_enabled": True},
        {"scale_to_zero_enabled": True},
        {"workload_type": "GPU_SMALL"},
        {"instance_profile_arn": "arn"},
        {"entity_version_alias": "champion"},
    ],
)
def test_what_makes_no_other_replica_restarts_none(live: Api, change: dict[str, Any]) -> None:
    """An entity that differs only in what is echoed, or in when it sleeps, keeps its replicas and shows the change."""
    body = config()
    body["served_entities"][0] |= change
    call(live, "PUT", "/config", body)
    endpoint = live.endpoints.get("e")
    assert endpoint is not None
    assert endpoint.pending is not None
    assert [entity.generation for entity in endpoint.pending.entities] == [1, 1]
    live.succeed("e")
    call(live, "PUT", "/config", config())  # sent again without it
    endpoint = live.endpoints.get("e")
    assert endpoint is not None
    assert endpoint.pending is not None
    assert [entity.generation for entity in endpoint.pending.entities] == [1, 1]
