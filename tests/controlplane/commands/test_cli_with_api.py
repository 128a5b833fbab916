"""The commands against the real API on its real server; only registry and supervisor are stood in for."""

import json

import pytest

from controlplane.api.app import create_app
from controlplane.api.deps import Deps
from controlplane.api.server import serve
from controlplane.clock import FakeClock
from controlplane.domain import Address, Outcome, UpdateState
from controlplane.registry import FakeRegistry
from controlplane.rollout import lifecycle
from controlplane.store import Endpoints, Store
from controlplane.watch import WatchedMap

MODELS = {
    "model-A": {"1": "/models/a1", "2": "/models/a2"},
    "model-B": {"1": "/models/b1"},
    "模型 [red]": {"1": "/models/c1"},
}
CREATE = (
    "--entity",
    "current=model-A:1",
    "--entity",
    "challenger=model-B:1",
    "--traffic",
    "current=90",
    "--traffic",
    "challenger=10",
)


class EndsAtOnce(Endpoints):
    """Endpoints whose every update has ended by the time its write returns: applied, or failed for `failure`."""

    failure = ""

    def insert(self, endpoint):
        super().insert(endpoint)
        self._end(endpoint)

    def save(self, endpoint):
        super().save(endpoint)
        self._end(endpoint)

    def _end(self, endpoint):
        if endpoint.update is not UpdateState.IN_PROGRESS:
            return
        if self.failure:
            outcomes = [Outcome(entity.name, failed=True, message=self.failure) for entity in endpoint.pending.entities]
            super().save(lifecycle.fail(endpoint, outcomes, 2))
        else:
            super().save(lifecycle.succeed(endpoint, 2))


@pytest.fixture
def api(tmp_path):
    """What the endpoints are, and the URL of an API that serves them."""
    with Store(f"sqlite:///{tmp_path}/wye.db") as store:
        endpoints = EndsAtOnce(store, WatchedMap())
        server = serve(create_app(Deps(store, endpoints, FakeRegistry(MODELS), FakeClock())), Address(host="127.0.0.1"))
        yield endpoints, f"http://127.0.0.1:{server.address.port}"
        server.close()


@pytest.fixture
def wye(api, run_bare):
    """`wye …` talking to that API."""
    return lambda *args, input=None: run_bare(*args, input=input, env={"WYE_URL": api[1]})  # noqa: A006


def served(api):
    """Generation and percentage of each entity that `multi-model` serves; an entity keeps replicas with its generation."""
    config = api[0].get("multi-model").active
    percents = {route.served_entity: route.percent for route in config.traffic}
    return {entity.name: (entity.generation, percents[entity.name]) for entity in config.entities}


def test_a_life_of_an_endpoint(wye, api):
    """Create, look, split, update, delete: each command does what it says, and the exit code is 0."""
    created = wye("endpoints", "create", "multi-model", *CREATE)
    assert created.exit_code == 0, created.stderr
    assert served(api) == {"current": (1, 90), "challenger": (1, 10)}
    assert "current (model-A 1), challenger (model-B 1)" in wye("endpoints", "list").stdout
    assert "challenger  model-B 1  10%" in wye("status").stdout
    assert wye("split", "multi-model", "current=50", "challenger=50").exit_code == 0
    assert served(api) == {"current": (1, 50), "challenger": (1, 50)}
    assert wye("endpoints", "update", "multi-model", "--entity", "current=model-A:2").exit_code == 0
    assert served(api) == {"current": (3, 100)}
    assert wye("endpoints", "delete", "multi-model", "--yes").exit_code == 0
    assert wye("endpoints", "get", "multi-model").exit_code == 3


def test_split_and_a_round_trip_start_no_worker(wye, api):
    """Sizes, variables and all else survive a split and `get | update`: no entity gets a new generation."""
    config = {
        "served_entities": [
            {
                "name": "current",
                "entity_name": "模型 [red]",
                "entity_version": "1",
                "min_provisioned_concurrency": 4,
                "max_provisioned_concurrency": 8,
                "environment_vars": {"A": "ü"},
                "instance_profile_arn": "arn",
            },
            {"name": "challenger", "entity_name": "model-B", "entity_version": "1", "scale_to_zero_enabled": True},
        ],
        "traffic_config": {
            "routes": [
                {"served_model_name": "current", "traffic_percentage": "90"},
                {"served_model_name": "challenger", "traffic_percentage": "10"},
            ]
        },
        "auto_capture_config": {"catalog_name": "c"},
    }
    assert wye("endpoints", "create", "multi-model", "-f", "-", input=json.dumps(config)).exit_code == 0
    before = api[0].get("multi-model")
    assert wye("split", "multi-model", "challenger=100").exit_code == 0
    assert served(api) == {"current": (1, 0), "challenger": (1, 100)}
    printed = wye("endpoints", "get", "multi-model", "-o", "json").stdout
    assert wye("endpoints", "update", "multi-model", "-f", "-", input=printed).exit_code == 0
    after = api[0].get("multi-model")
    assert after.active.version == 3
    assert after.active.entities == before.active.entities
    assert after.echoed == before.echoed
    assert "模型 [red] 1" in wye("status", "multi-model").stdout


def test_a_sum_other_than_100(wye, api):
    """The API says what the sum is, and nothing changes."""
    wye("endpoints", "create", "multi-model", *CREATE)
    result = wye("split", "multi-model", "current=90", "challenger=20")
    assert result.exit_code == 1
    assert "110" in result.stderr
    assert "INVALID_PARAMETER_VALUE" in result.stderr
    assert served(api) == {"current": (1, 90), "challenger": (1, 10)}


def test_a_model_that_is_not_registered(wye):
    """A version that does not exist ends with 3 and names those that do."""
    result = wye("endpoints", "create", "multi-model", "--entity", "current=model-A:7")
    assert result.exit_code == 3
    assert "it has 1, 2" in result.stderr


def test_a_failed_update(wye, api):
    """The reason that the supervisor stored is what the user reads."""
    wye("endpoints", "create", "multi-model", *CREATE)
    api[0].failure = "ModuleNotFoundError: No module named 'xgboost'"
    result = wye("endpoints", "update", "multi-model", "--entity", "current=model-A:2")
    assert result.exit_code == 5
    assert "config version 1 still serves" in result.stderr
    assert "current (model-A 2): ModuleNotFoundError: No module named 'xgboost'" in result.stderr
    assert served(api) == {"current": (1, 90), "challenger": (1, 10)}


def test_a_name_that_no_endpoint_can_have(wye):
    """Names with other characters reach the API as they are and are refused or not found there."""
    assert wye("endpoints", "create", "a b", "--entity", "current=model-A:1").exit_code == 1
    assert wye("endpoints", "get", "ü?&#%").exit_code == 3
