"""Plain curl: the examples of the documentation as they are printed there, and what Wye adds to the original."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.wye import EXAMPLE, Wye, config, until

EP = "/api/2.0/serving-endpoints"
NAME = "curled"


@pytest.fixture(scope="module")
def endpoint(wye: Wye) -> Iterator[str]:
    """An endpoint that these tests update."""
    wye.create(NAME, config({"a": 90, "b": 10}, a="linear/1", b="linear/2"))
    yield NAME
    wye.client.delete(f"{EP}/{NAME}")


def curl(wye: Wye, command: str) -> tuple[int, Any]:
    """What a command line prints that is written as in the documentation: status and JSON."""
    line = command.replace("$URL", wye.url).replace("$TOKEN", wye.token)
    done = subprocess.run(
        ["curl", "-s", "-w", "\n%{http_code}", *shlex.split(line)], check=True, capture_output=True, text=True
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def call(wye: Wye, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """A call of the API and its JSON, which has to have that status."""
    answer = wye.client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_the_documented_commands(wye: Wye) -> None:
    """Create, split by strings as the docs have them, query by Bearer and by Basic, and delete."""
    bearer = "-H 'Authorization: Bearer $TOKEN'"
    create = (
        f"-X POST $URL{EP} {bearer} -H 'Content-Type: application/json' -d "
        '\'{"name": "docs", "config": {"served_models": ['
        '{"name": "current", "model_name": "linear", "model_version": "1", "workload_size": "Small", "scale_to_zero_enabled": false},'
        '{"name": "challenger", "model_name": "linear", "model_version": "2", "workload_size": "Small", "scale_to_zero_enabled": false}],'
        '"traffic_config": {"routes": [{"served_model_name": "current", "traffic_percentage": "90"},'
        '{"served_model_name": "challenger", "traffic_percentage": "10"}]}}}\''
    )
    status, answer = curl(wye, create)
    assert (status, answer["state"]["config_update"]) == (200, "IN_PROGRESS")
    assert wye.settled("docs")["config"]["traffic_config"]["routes"][0]["traffic_percentage"] == 90
    query = f"-X POST $URL/serving-endpoints/docs/served-models/challenger/invocations {bearer} -H 'Content-Type: application/json' -d '{json.dumps(EXAMPLE)}'"
    assert curl(wye, query) == (200, {"predictions": [pytest.approx(42.0)]})
    assert curl(wye, f"-X DELETE $URL{EP}/docs {bearer}") == (200, {})
    assert curl(wye, f"$URL{EP}/docs {bearer}")[0] == 404


def test_a_rollback_is_one_call(wye: Wye, endpoint: str) -> None:
    """It deploys what served before, or the version that is named, as a new version of the history."""
    before = wye.get(endpoint)["config"]["config_version"]
    wye.update(endpoint, config({"a": 0, "b": 100}, a="linear/1", b="linear/3"))
    assert wye.value(endpoint) == 63.0
    answer = call(wye, "POST", f"{EP}/{endpoint}/config:rollback")
    assert answer["pending_config"]["config_version"] == before + 2
    back = wye.settled(endpoint)
    assert [each["entity_version"] for each in back["config"]["served_entities"]] == ["1", "2"]
    assert wye.value(endpoint, "b") == 42.0
    call(wye, "POST", f"{EP}/{endpoint}/config:rollback", {"config_version": before + 1})
    wye.settled(endpoint)
    assert wye.value(endpoint, "b") == 63.0
    history = call(wye, "GET", f"{EP}/{endpoint}/config-versions")["config_versions"]
    assert [each["state"]["config_update"] for each in history[-4:]] == ["NOT_UPDATING"] * 4
    assert (
        "no earlier"
        not in call(wye, "POST", f"{EP}/{endpoint}/config:rollback", {"config_version": 99}, 404)["message"]
    )


def test_an_update_can_be_called_off(wye: Wye, endpoint: str) -> None:
    """What served goes on; the update is UPDATE_CANCELED, and its replicas are gone."""
    before = wye.get(endpoint)["config"]
    # Replicas of the pending config cannot be ready before this returns: the update has four of them to start.
    body = config({"a": 100, "c": 0}, a="linear/1", c="xgboost/1")
    body["served_entities"][1]["workload_size"] = "Large"
    assert wye.client.put(f"{EP}/{endpoint}/config", json=body).status_code == 200
    canceled = call(wye, "POST", f"{EP}/{endpoint}/config:cancel")
    assert canceled["state"] == {"ready": "READY", "config_update": "UPDATE_CANCELED", "suspend": "NOT_SUSPENDED"}
    assert canceled["config"]["config_version"] == before["config_version"]
    assert canceled["pending_config"]["served_entities"][1]["state"]["deployment"] == "DEPLOYMENT_ABORTED"
    assert wye.predict(endpoint).status_code == 200
    call(wye, "POST", f"{EP}/{endpoint}/config:cancel", status=409)
    mark = f"{canceled['id'][:8]}-{canceled['pending_config']['config_version']}-"
    until(lambda: not [each for each in wye.replicas() if each.startswith(mark)], 30, "its replicas are gone")


def test_stop_and_start(wye: Wye) -> None:
    """A stopped endpoint has no replicas and answers 400; a start is a new config version, and it serves again."""
    wye.create("stopping", config({"a": 100}, a="linear/1"))
    stopped = call(wye, "POST", f"{EP}/stopping/config:stop")
    assert stopped["state"] == {"ready": "NOT_READY", "config_update": "NOT_UPDATING", "suspend": "STOPPED"}
    assert (
        call(wye, "POST", f"{EP}/stopping/config:stop")["last_updated_timestamp"] == stopped["last_updated_timestamp"]
    )
    refused = wye.predict("stopping").json()
    assert refused["error_code"] == "BAD_REQUEST"
    assert "stopped" in refused["message"]
    until(lambda: not [each for each in wye.replicas() if each.startswith(stopped["id"][:8])], 30, "no replicas")
    call(wye, "POST", f"{EP}/stopping/config:start")
    started = wye.settled("stopping")
    assert started["state"] == {"ready": "READY", "config_update": "NOT_UPDATING", "suspend": "NOT_SUSPENDED"}
    assert started["config"]["config_version"] == 2
    assert wye.value("stopping") == 21.0
    call(wye, "POST", f"{EP}/stopping/config:start", status=400)
    call(wye, "DELETE", f"{EP}/stopping")


def test_create_or_update(wye: Wye) -> None:
    """PUT makes an endpoint, then changes it, and does nothing when there is nothing to do."""
    body = {"config": config({"a": 100}, a="linear/1"), "tags": [{"key": "k"}]}
    first = call(wye, "PUT", f"{EP}/upserted", body)
    assert first["pending_config"]["config_version"] == 1
    settled = wye.settled("upserted")
    assert call(wye, "PUT", f"{EP}/upserted", body) == settled
    call(wye, "PUT", f"{EP}/upserted", {"config": config({"a": 100}, a="linear/2")})
    assert wye.settled("upserted")["tags"] == [{"key": "k", "value": ""}]
    assert wye.value("upserted") == 42.0
    call(wye, "DELETE", f"{EP}/upserted")


def test_a_dry_run_tells_and_stores_nothing(wye: Wye, endpoint: str) -> None:
    """Every problem at once, those that only the registry knows included; or all that would change."""
    before = wye.get(endpoint)
    bad = config({"a": 90, "ghost": 20}, a="linear/99", b="nothing/1")
    told = call(wye, "PUT", f"{EP}/{endpoint}/config?dry_run=true", bad)
    assert told["accepted"] is False
    assert {problem["field"] for problem in told["problems"]} == {
        "served_entities[0]",
        "served_entities[1]",
        "traffic_config.routes[1]",
    }
    good = config({"a": 50, "b": 50}, a="linear/1", b="other/1")
    told = call(wye, "PUT", f"{EP}/{endpoint}/config?dry_run=true", good)
    assert (told["accepted"], told["action"]) == (True, "update")
    assert [(each["name"], each["replicas"]) for each in told["served_entities"]] == [("a", "keep"), ("b", "restart")]
    assert call(wye, "POST", f"{EP}?dry_run=true", {"name": "dry", "config": good})["action"] == "create"
    assert wye.get(endpoint) == before
    call(wye, "GET", f"{EP}/dry", status=404)


@pytest.mark.parametrize(
    "entity",
    [
        {"entity_name": "linear", "entity_version": "@champion"},
        {"entity_name": "linear", "entity_version": "champion"},
        {"entity_name": "models:/linear@champion"},
        {"entity_name": "models:/linear/2"},
    ],
)
def test_aliases_are_looked_up_when_the_update_is_made(wye: Wye, entity: dict[str, str]) -> None:
    """The answer has the version that the alias stands for, and the alias beside it."""
    body = {"served_entities": [{"name": "m", **entity}]}
    told = call(wye, "POST", f"{EP}?dry_run=true", {"name": "aliased", "config": body})
    fields = {each["field"]: each["after"] for each in told["served_entities"][0]["fields"]}
    assert (fields["entity_name"], fields["entity_version"]) == ("linear", "2")
    assert fields.get("entity_version_alias") == (None if "/2" in entity["entity_name"] else "champion")
