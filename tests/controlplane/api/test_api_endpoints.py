"""Create, list, get and delete, as any HTTP client calls them."""

from __future__ import annotations

import pytest

from controlplane.domain import Endpoint
from controlplane.store import Store
from tests.controlplane.api.harness import PATH, Api, config


@pytest.mark.parametrize("path", [PATH, f"{PATH}/"])
def test_create_answers_with_the_endpoint_in_progress(api: Api, path: str) -> None:
    """With and without a trailing slash, the answer and the very next GET say IN_PROGRESS, and the store has it."""
    answer = api.client.post(path, json={"name": "e", "config": config()})
    assert answer.status_code == 200
    created = answer.get_json()
    assert created["state"] == {"ready": "NOT_READY", "config_update": "IN_PROGRESS", "suspend": "NOT_SUSPENDED"}
    assert len(created["id"]) == 32
    assert created["creator"] == "admin"
    assert created["creation_timestamp"] == api.clock.now_ms()
    assert "config" not in created
    assert created["pending_config"]["config_version"] == 1
    assert api.client.get(f"{PATH}/e").get_json() == created
    assert api.store.get("e") == api.endpoints.get("e")


def test_an_endpoint_may_begin_without_a_config(api: Api) -> None:
    """It answers NOT_READY and NOT_UPDATING until it gets one."""
    created = api.client.post(PATH, json={"name": "e"}).get_json()
    assert created["state"] == {"ready": "NOT_READY", "config_update": "NOT_UPDATING", "suspend": "NOT_SUSPENDED"}
    updated = api.client.put(f"{PATH}/e/config", json=config()).get_json()
    assert updated["pending_config"]["config_version"] == 1


def test_what_only_declarative_clients_need_comes_back(api: Api) -> None:
    """Settings without a meaning here are kept across restarts and given back; rate limits are kept silently."""
    body = {
        "name": "e",
        "config": {**config(), "auto_capture_config": {"enabled": False, "catalog_name": "c"}},
        "description": "d",
        "route_optimized": True,
        "tags": [{"key": "k", "value": "v"}],
        "budget_policy_id": "b-1",
        "email_notifications": {"on_update_failure": ["me@corp.example"]},
        "rate_limits": [{"calls": 1, "renewal_period": "minute"}],
    }
    assert api.client.post(PATH, json=body).status_code == 200
    api.succeed("e")
    api.endpoints.load()
    got = api.client.get(f"{PATH}/e").get_json()
    for field in ("description", "route_optimized", "tags", "budget_policy_id", "email_notifications"):
        assert got[field] == body[field]
    assert got["config"]["auto_capture_config"] == {"enabled": False, "catalog_name": "c"}
    assert "rate_limits" not in got


def test_the_creator_is_who_envoy_says(api: Api) -> None:
    """The user whom Envoy names is the creator of endpoint and entities."""
    headers = {"x-wye-user": "me@corp.example"}
    created = api.client.post(PATH, json={"name": "e", "config": config()}, headers=headers).get_json()
    assert created["creator"] == created["pending_config"]["served_models"][0]["creator"] == "me@corp.example"


def test_a_taken_name_is_refused_before_the_registry_is_asked(api: Api) -> None:
    """A second endpoint of a name is RESOURCE_ALREADY_EXISTS, and nothing changes."""
    first = api.client.post(PATH, json={"name": "e", "config": config()}).get_json()
    api.registry.asked.clear()
    answer = api.client.post(PATH, json={"name": "e", "config": config(50)})
    assert (answer.status_code, answer.get_json()["error_code"]) == (409, "RESOURCE_ALREADY_EXISTS")
    assert api.registry.asked == []
    assert api.client.get(f"{PATH}/e").get_json() == first


def test_a_name_that_another_process_took_is_refused_as_well(api: Api) -> None:
    """The store's word counts, not only what this process remembers; from then on, reads show that endpoint."""
    other = Api(Store(str(api.store._engine.url)))
    assert other.client.post(PATH, json={"name": "e"}).status_code == 200
    other.store.close()
    assert api.client.post(PATH, json={"name": "e"}).get_json()["error_code"] == "RESOURCE_ALREADY_EXISTS"
    assert api.client.get(f"{PATH}/e").status_code == 200


def test_models_that_are_not_registered_are_all_named(api: Api) -> None:
    """Unknown models and versions give 404 with the place of each, and nothing is stored."""
    body = config(version="9")
    body["served_entities"][0]["entity_name"] = "absent"
    answer = api.client.post(PATH, json={"name": "e", "config": body})
    assert answer.status_code == 404
    problems = answer.get_json()
    assert problems["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert problems["message"] == (
        "config.served_entities[0]: no model named 'absent' is registered; check the name, or register the model first; "
        "config.served_entities[1]: model 'churn' has no version '9'; it has 3, 4, 5"
    )
    assert [detail["field"] for detail in problems["details"][1]["field_violations"]] == [
        "config.served_entities[0]",
        "config.served_entities[1]",
    ]
    assert api.store.endpoints() == []


def test_a_registry_that_is_away_is_worth_another_try(api: Api) -> None:
    """The answer is 503 with Retry-After, and nothing is stored."""
    api.registry.away = "connection refused"
    answer = api.client.post(PATH, json={"name": "e", "config": config()})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.get_json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert api.store.endpoints() == []


def test_the_list_has_all_endpoints_by_name(api: Api) -> None:
    """Each element is a summary; with and without a trailing slash; empty at first."""
    assert api.client.get(PATH).get_json() == {"endpoints": []}
    for name in ("b", "a"):
        api.client.post(PATH, json={"name": name, "config": config()})
    api.succeed("b")
    listed = api.client.get(f"{PATH}/").get_json()["endpoints"]
    assert [(endpoint["name"], endpoint["state"]["ready"]) for endpoint in listed] == [
        ("a", "NOT_READY"),
        ("b", "READY"),
    ]
    assert set(listed[1]["config"]) == {"served_entities", "served_models"}


def test_get_of_an_unknown_endpoint(api: Api) -> None:
    """It is 404 RESOURCE_DOES_NOT_EXIST, which is what Terraform takes for gone."""
    answer = api.client.get(f"{PATH}/e")
    assert answer.status_code == 404
    assert answer.get_json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert answer.get_json()["message"] == "Serving endpoint with name e not found."


def test_delete_works_in_the_middle_of_an_update(api: Api) -> None:
    """The answer is an empty JSON object, then the endpoint and its history are gone and its name is free."""
    first = api.client.post(PATH, json={"name": "e", "config": config()}).get_json()
    answer = api.client.delete(f"{PATH}/e")
    assert (answer.status_code, answer.get_json()) == (200, {})
    assert api.client.get(f"{PATH}/e").status_code == 404
    assert api.client.delete(f"{PATH}/e").status_code == 404
    assert api.store.history(first["id"]) == []
    second = api.client.post(PATH, json={"name": "e", "config": config()}).get_json()
    assert second["id"] != first["id"]
    assert second["pending_config"]["config_version"] == 1


def test_a_store_that_is_away_is_worth_another_try(api: Api) -> None:
    """A write that cannot be stored is 503 with Retry-After, and no read shows it."""

    class Away(Store):
        def insert(self, endpoint: Endpoint) -> None:
            with self._engine.begin() as connection:
                connection.exec_driver_sql("PRAGMA query_only = ON")
            super().insert(endpoint)

    with Away(str(api.store._engine.url)) as store:
        away = Api(store)
        answer = away.client.post(PATH, json={"name": "e"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.get_json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
        assert "may only be read" in answer.get_json()["message"]
        assert away.client.get(PATH).get_json() == {"endpoints": []}
