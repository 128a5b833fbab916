"""`wye apply`, `history`, `rollback`, `cancel` and `logs` against the real API on its real server."""

import json
from pathlib import Path

import pytest
import yaml

from controlplane.api.app import create_app
from controlplane.api.deps import Deps
from controlplane.api.server import serve
from controlplane.clock import FakeClock
from controlplane.domain import Address, UpdateState
from controlplane.registry import FakeRegistry
from controlplane.rollout import lifecycle
from controlplane.store import Endpoints, Store
from controlplane.watch import WatchedMap

DESCRIPTION = Path(__file__).parents[3] / "docs" / "openapi.yaml"
FILE = """
name: one
config:
  served_entities: [{name: a, entity_name: m, entity_version: "1"}]
tags: [{key: team, value: x}]
---
name: two
config:
  served_entities: [{name: a, entity_name: m, entity_version: 2}]
"""


class EndsAtOnce(Endpoints):
    """Endpoints whose updates have ended when their write returns, unless they are held."""

    held = False

    def insert(self, endpoint):
        super().insert(endpoint)
        self._end(endpoint)

    def save(self, endpoint):
        super().save(endpoint)
        self._end(endpoint)

    def _end(self, endpoint):
        if endpoint.update is UpdateState.IN_PROGRESS and not self.held:
            super().save(lifecycle.succeed(endpoint, 2))


@pytest.fixture
def api(tmp_path):
    """The endpoints, and the URL of an API that serves them."""
    with Store(f"sqlite:///{tmp_path}/wye.db") as store:
        endpoints = EndsAtOnce(store, WatchedMap())
        registry = FakeRegistry({"m": {"1": "/m/1", "2": "/m/2"}})
        deps = Deps(store, endpoints, registry, FakeClock(), logs=lambda replica, lines, kind: f"{kind.value} \x1b[1m")
        server = serve(create_app(deps), Address(host="127.0.0.1"))
        yield endpoints, f"http://127.0.0.1:{server.address.port}"
        server.close()


@pytest.fixture
def wye(api, run_bare):
    """`wye …` talking to that API."""
    return lambda *args, input=None: run_bare(*args, input=input, env={"WYE_URL": api[1]})  # noqa: A006


def test_apply_makes_then_changes_then_leaves_alone(wye, api):
    """Every document of the file is applied; a second time nothing happens, and what the file leaves out stays."""
    assert wye("apply", "-f", "-", input=FILE).exit_code == 0
    assert [api[0].get(name).active.version for name in ("one", "two")] == [1, 1]
    revision = api[0].get("one").revision
    assert wye("apply", "-f", "-", input=FILE).exit_code == 0
    assert api[0].get("one").revision == revision
    assert wye("apply", "-f", "-", input=FILE.replace('"1"', '"2"').replace("tags", "zzz")).exit_code == 0
    changed = api[0].get("one")
    assert (changed.active.version, changed.active.entities[0].spec.entity_version) == (2, "2")
    assert changed.tags[0].value == "x"
    printed = wye("endpoints", "get", "one", "-o", "json").stdout
    assert wye("apply", "-f", "-", input=printed).exit_code == 0
    assert api[0].get("one").revision == changed.revision, "what get printed is what there is"


def test_apply_can_only_tell(wye, api):
    """A dry run lists what would change, and fails with every problem; nothing is sent that could change anything."""
    told = wye("apply", "--dry-run", "-f", "-", input=FILE)
    assert told.exit_code == 0, told.stderr
    assert ["one", "endpoint", "created"] in [line.split() for line in told.stdout.splitlines()]
    assert api[0].cell.snapshot() == {}
    wrong = wye(
        "apply", "--dry-run", "-f", "-", input=FILE.replace("two", "databricks-2").replace("version: 2", "version: 9")
    )
    assert wrong.exit_code == 1
    assert "databricks-2: name: " in wrong.stderr
    assert "has no version '9'" in wrong.stderr
    wye("apply", "-f", "-", input=FILE)
    assert wye("apply", "--dry-run", "-f", "-", input=FILE).stdout == "Nothing would change.\n"


def test_a_dry_run_tells_of_a_limit_that_moves_to_another_user(wye):
    """Whom a rate limit is for is part of what would change."""
    limited = "name: one\nrate_limits: [{calls: 2, key: user, principal: bob, renewal_period: minute}]\n"
    assert wye("apply", "-f", "-", input=limited).exit_code == 0
    assert wye("apply", "--dry-run", "-f", "-", input=limited).stdout == "Nothing would change.\n"
    told = wye("apply", "--dry-run", "-f", "-", input=limited.replace("bob", "dan"))
    assert (told.exit_code, "bob" in told.stdout, "dan" in told.stdout) == (0, True, True)


#: A create request with something in every field.
EVERYTHING = {
    "name": "one",
    "config": {
        "served_entities": [
            {
                "name": "a",
                "entity_name": "m",
                "entity_version": "1",
                "entity_version_alias": "best",
                "workload_type": "CPU_MEDIUM",
                "scale_to_zero_enabled": True,
                "min_provisioned_concurrency": 4,
                "max_provisioned_concurrency": 8,
                "environment_vars": {"A": " 1\n2 "},
                "instance_profile_arn": "arn",
            },
            {"name": "b", "entity_name": "m", "entity_version": "2", "workload_size": "Medium"},
        ],
        "traffic_config": {
            "routes": [
                {"served_model_name": "b", "traffic_percentage": 90},
                {"served_model_name": "a", "traffic_percentage": 10},
            ]
        },
        "auto_capture_config": {"enabled": False, "catalog_name": "c"},
    },
    "description": "d",
    "tags": [{"key": "team", "value": "x"}],
    "route_optimized": True,
    "rate_limits": [{"calls": 9, "renewal_period": "minute"}],
    "ai_gateway": {"rate_limits": [{"calls": 7, "key": "user", "renewal_period": "minute"}]},
    "email_notifications": {"on_update_failure": ["me@corp.example"]},
    "telemetry_config": {"telemetry_profile_id": "p"},
    "budget_policy_id": "b",
    "usage_policy_id": "u",
}


def test_what_get_prints_makes_the_same_endpoint(wye, api):
    """All that can be asked for and is shown comes back after a deletion; rate limits of the old call are not shown."""
    assert EVERYTHING.keys() == _described("CreateRequest"), "add what is new, so that it is tried here as well"
    first, second = (entity.keys() for entity in EVERYTHING["config"]["served_entities"])
    assert first | second == _described("ServedEntityInput") - {"burst_scaling_enabled"}, "the same"
    assert wye("apply", "-f", "-", input=json.dumps(EVERYTHING)).exit_code == 0
    printed, made = wye("endpoints", "get", "one", "-o", "json").stdout, api[0].get("one")
    assert wye("endpoints", "delete", "one", "--yes").exit_code == 0
    assert wye("apply", "-f", "-", input=printed).exit_code == 0
    assert _asked(api[0].get("one")) == _asked(made)


def _described(name):
    """The fields of a body, as the API's description has them."""
    document = yaml.safe_load(DESCRIPTION.read_text())
    return document["components"]["schemas"][name]["properties"].keys()


def _asked(endpoint):
    """What was asked for of an endpoint, as far as it is shown."""
    config = endpoint.active
    specs = [entity.spec for entity in config.entities]
    of_config = (specs, config.traffic, config.echoed)
    return (
        of_config,
        endpoint.description,
        endpoint.tags,
        endpoint.route_optimized,
        endpoint.gateway_limits,
        endpoint.echoed,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no endpoint"),
        ("name: a\n---\nconfig: {}", "document 2 of standard input has to be an object with the endpoint's name"),
        ("[", "is not YAML"),
    ],
)
def test_a_file_that_cannot_be_applied_sends_nothing(wye, api, text, message):
    """It is a mistake of the command line, told before the first request."""
    result = wye("apply", "-f", "-", input=text)
    assert (result.exit_code, message in result.stderr) == (2, True)
    assert api[0].cell.snapshot() == {}


def test_history_rollback_and_cancel(wye, api):
    """History shows each version and its end; rollback deploys an earlier one; cancel calls the next update off."""
    wye("endpoints", "create", "e", "--entity", "a=m:1")
    wye("endpoints", "update", "e", "--entity", "a=m:2")
    assert wye("endpoints", "rollback", "e").exit_code == 0
    assert api[0].get("e").active.entities[0].spec.entity_version == "1"
    lines = wye("endpoints", "history", "e").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["1", "APPLIED"], ["2", "APPLIED"], ["3", "APPLIED"]]
    assert lines[2].endswith("a (m 2)          a=100%")
    assert wye("endpoints", "rollback", "e", "--version", "9").exit_code == 3
    api[0].held = True
    wye("endpoints", "update", "e", "--entity", "a=m:2", "--no-wait")
    assert "UPDATE_CANCELED" in wye("endpoints", "cancel", "e").stdout
    assert wye("endpoints", "cancel", "e").exit_code == 1
    assert api[0].get("e").active.entities[0].spec.entity_version == "1"
    history = json.loads(wye("endpoints", "history", "e", "-o", "json").stdout)["config_versions"]
    assert history[-1]["state"]["config_update"] == "UPDATE_CANCELED"


def test_logs(wye):
    """The lines are printed without control characters; the build's with --build; an unknown model is exit code 3."""
    wye("endpoints", "create", "e", "--entity", "a=m:1")
    printed = wye("logs", "e", "a").stdout
    assert "-1-a-0] output \\x1b[1m" in printed
    assert "] build " in wye("logs", "e", "a", "--build", "--version", "1").stdout
    assert wye("logs", "e", "ghost").exit_code == 3
