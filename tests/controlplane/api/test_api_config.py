"""Updates of a config, and the history of all there were."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.domain import Endpoint
from controlplane.rollout import lifecycle
from controlplane.store import Endpoints, Store
from tests.controlplane.api.harness import PATH, Api, config


@pytest.fixture
def live(api: Api) -> Api:
    """An API with the endpoint `e`, whose first config is active."""
    assert api.client.post(PATH, json={"name": "e", "config": config()}).status_code == 200
    api.succeed("e")
    return api


def test_an_update_is_in_progress_until_it_is_done(live: Api) -> None:
    """The answer and the next GET have the active and the pending config; after success only the new one."""
    answer = live.client.put(f"{PATH}/e/config", json=config(50))
    assert answer.status_code == 200
    updated = answer.get_json()
    assert updated["state"]["config_update"] == "IN_PROGRESS"
    assert updated["state"]["ready"] == "READY"
    assert (updated["config"]["config_version"], updated["pending_config"]["config_version"]) == (1, 2)
    assert live.client.get(f"{PATH}/e").get_json() == updated
    live.succeed("e")
    finished = live.client.get(f"{PATH}/e").get_json()
    assert finished["config"]["config_version"] == 2
    assert "pending_config" not in finished
    assert [route["traffic_percentage"] for route in finished["config"]["traffic_config"]["routes"]] == [50, 50]


def test_new_weights_need_no_registry(live: Api) -> None:
    """A traffic-only change keeps the entities and asks nobody, so it works while the registry is away."""
    live.registry.asked.clear()
    live.registry.away = "connection refused"
    before = live.endpoints.get("e")
    assert live.client.put(f"{PATH}/e/config", json=config(50)).status_code == 200
    after = live.endpoints.get("e")
    assert live.registry.asked == []
    assert before is not None
    assert after is not None
    assert before.active is not None
    assert after.pending is not None
    assert after.pending.entities == before.active.entities


def test_only_new_models_are_looked_up(live: Api) -> None:
    """A version swap asks the registry for the new version alone."""
    live.registry.asked.clear()
    live.client.put(f"{PATH}/e/config", json=config(version="5"))
    assert live.registry.asked == [("churn", "5")]


def test_a_second_update_meanwhile_is_a_conflict(live: Api) -> None:
    """While one update is in progress another one is RESOURCE_CONFLICT and changes nothing."""
    first = live.client.put(f"{PATH}/e/config", json=config(50)).get_json()
    answer = live.client.put(f"{PATH}/e/config", json=config(20))
    assert (answer.status_code, answer.get_json()["error_code"]) == (409, "RESOURCE_CONFLICT")
    assert live.client.get(f"{PATH}/e").get_json() == first


def test_after_a_failed_update_another_one_may_begin(live: Api) -> None:
    """The failed config stays for diagnosis, the active one as it was; the next update gets the next version."""
    live.client.put(f"{PATH}/e/config", json=config(version="5"))
    live.fail("e", "No module named 'x'")
    failed = live.client.get(f"{PATH}/e").get_json()
    assert failed["state"] == {"ready": "READY", "config_update": "UPDATE_FAILED", "suspend": "NOT_SUSPENDED"}
    assert failed["pending_config"]["served_entities"][1]["state"] == {
        "deployment": "DEPLOYMENT_FAILED",
        "deployment_state_message": "No module named 'x'",
    }
    assert failed["config"]["config_version"] == 1
    again = live.client.put(f"{PATH}/e/config", json=config(50)).get_json()
    assert again["pending_config"]["config_version"] == 3


def test_an_update_of_an_unknown_endpoint(api: Api) -> None:
    """It is 404, whatever the body."""
    answer = api.client.put(f"{PATH}/e/config", data=b"{", content_type="application/json")
    assert (answer.status_code, answer.get_json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_bad_body_changes_nothing(live: Api) -> None:
    """Every problem is named, and the endpoint stays as it was."""
    before = live.client.get(f"{PATH}/e").get_json()
    answer = live.client.put(f"{PATH}/e/config", json=config(-1))
    assert (answer.status_code, answer.get_json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "traffic_config.routes[0].traffic_percentage: is -1" in answer.get_json()["message"]
    assert "traffic_config.routes[1].traffic_percentage: is 101" in answer.get_json()["message"]
    assert live.client.get(f"{PATH}/e").get_json() == before


def test_the_kept_part_of_a_config_is_replaced_with_it(live: Api) -> None:
    """An update is a full replacement: what it does not send is gone, what belongs to the endpoint stays."""
    capture = {"auto_capture_config": {"enabled": False}}
    live.client.put(f"{PATH}/e/config", json={**config(), **capture})
    live.succeed("e")
    assert live.client.get(f"{PATH}/e").get_json()["config"]["auto_capture_config"] == {"enabled": False}
    live.client.put(f"{PATH}/e/config", json=config())
    live.succeed("e")
    assert "auto_capture_config" not in live.client.get(f"{PATH}/e").get_json()["config"]


class Overtaken(Endpoints):
    """Endpoints that somebody else changes just before a save, as often as `times` says."""

    times = 0

    def save(self, endpoint: Endpoint) -> None:
        """As Endpoints.save, once the other one was faster."""
        if self.times:
            self.times -= 1
            with Store(str(self._store._engine.url)) as other:
                stored = other.get(endpoint.name)
                assert stored is not None
                other.save(self.theirs(stored))
        super().save(endpoint)

    @staticmethod
    def theirs(stored: Endpoint) -> Endpoint:
        """What the other one does."""
        return replace(stored, description=f"{stored.description}!", revision=stored.revision + 1)


class OvertakenByAnUpdate(Overtaken):
    """As Overtaken, by somebody who begins an update."""

    @staticmethod
    def theirs(stored: Endpoint) -> Endpoint:
        """What the other one does."""
        return lifecycle.begin_update(stored, [], [], {}, creator="them", now_ms=1)


def overtaken(live: Api, kind: type[Overtaken], times: int) -> Api:
    """The same API with endpoints of that kind."""
    api = Api(live.store)
    endpoints = kind(live.store, api.endpoints.cell)
    endpoints.load()
    endpoints.times = times
    object.__setattr__(api.deps, "endpoints", endpoints)
    return api


def test_an_update_that_was_overtaken_is_made_once_more(live: Api) -> None:
    """When the endpoint was changed in the meantime, the update is made on top of that change."""
    api = overtaken(live, Overtaken, times=1)
    answer = api.client.put(f"{PATH}/e/config", json=config(50))
    assert answer.status_code == 200
    assert answer.get_json()["description"] == "!"
    assert answer.get_json()["state"]["config_update"] == "IN_PROGRESS"


def test_an_update_that_is_overtaken_twice_gives_up(live: Api) -> None:
    """Then it is RESOURCE_CONFLICT, for the caller to look again."""
    api = overtaken(live, Overtaken, times=2)
    answer = api.client.put(f"{PATH}/e/config", json=config(50))
    assert (answer.status_code, answer.get_json()["error_code"]) == (409, "RESOURCE_CONFLICT")
    stored = api.store.get("e")
    assert stored is not None
    assert stored.description == "!!"
    assert stored.pending is None


def test_an_update_that_is_overtaken_by_another_is_a_conflict(live: Api) -> None:
    """Of two updates that begin at once the second is refused as if it had come later."""
    api = overtaken(live, OvertakenByAnUpdate, times=1)
    answer = api.client.put(f"{PATH}/e/config", json=config(50))
    assert (answer.status_code, answer.get_json()["error_code"]) == (409, "RESOURCE_CONFLICT")
    assert "is being updated (config version 2)" in answer.get_json()["message"]


def test_the_history_has_every_accepted_version(live: Api) -> None:
    """Oldest first, failed ones included, what was refused left out."""
    live.client.put(f"{PATH}/e/config", json=config(version="5"))
    live.client.put(f"{PATH}/e/config", json=config(10))
    live.fail("e", "x")
    live.client.put(f"{PATH}/e/config", json=config(50))
    versions = live.client.get(f"{PATH}/e/config-versions").get_json()["config_versions"]
    assert [version["config_version"] for version in versions] == [1, 2, 3]
    assert [version["served_entities"][1]["entity_version"] for version in versions] == ["4", "5", "4"]
    shares = [version["traffic_config"]["routes"][0]["traffic_percentage"] for version in versions]
    assert shares == [90, 90, 50]
    assert live.client.get(f"{PATH}/absent/config-versions").status_code == 404
