"""The description of the control API that the project ships, and thousands of requests made from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from controlplane.domain import Endpoint, UpdateState
from controlplane.rollout import lifecycle
from controlplane.store import Endpoints, Store
from controlplane.watch import WatchedMap
from tests.controlplane.api.harness import PATH, Api, config

DESCRIPTION = Path(__file__).parents[3] / "docs" / "openapi.yaml"
OTHERS = ("/api/2.0/permissions/", "/api/2.0/secrets/", "/api/2.0/token", "/api/2.0/preview/")


class EndsAtOnce(Endpoints):
    """Endpoints whose updates have succeeded when their write returns."""

    def insert(self, endpoint: Endpoint) -> None:
        """As Endpoints.insert."""
        super().insert(endpoint)
        self._end(endpoint)

    def save(self, endpoint: Endpoint) -> None:
        """As Endpoints.save."""
        super().save(endpoint)
        self._end(endpoint)

    def _end(self, endpoint: Endpoint) -> None:
        if endpoint.update is UpdateState.IN_PROGRESS:
            super().save(lifecycle.succeed(endpoint, 1))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API whose updates end at once."""
    with Store(f"sqlite:///{tmp_path_factory.mktemp('openapi')}/wye.db") as store:
        made = Api(store)
        object.__setattr__(made.deps, "endpoints", EndsAtOnce(store, WatchedMap()))
        yield made


def test_every_call_is_described(api: Api) -> None:
    """Path by path and method by method the description and the application are the same."""
    document = yaml.safe_load(DESCRIPTION.read_text())
    methods = {"get", "put", "post", "patch", "delete"}
    told = {(path, method) for path, item in document["paths"].items() for method in item.keys() & methods}
    found = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in api.app.url_map.iter_rules()
        for method in rule.methods or ()
        if method.lower() in methods and not rule.rule.startswith(OTHERS)
    }
    assert told == found


SCHEMA = schemathesis.openapi.from_dict(yaml.safe_load(DESCRIPTION.read_text()))
OPERATIONS = {each.ok().label: each.ok() for each in SCHEMA.get_all_operations()}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(
    max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(data=st.data())
def test_what_is_described_is_what_is_answered(api: Api, operation: str, data: st.DataObject) -> None:
    """No server error, no undeclared status or type, no answer of another shape, whatever is sent to whichever call."""
    SCHEMA.app = api.app
    if api.client.get(f"{PATH}/e").status_code == 404:
        api.client.post(PATH, json={"name": "e", "config": config()})
    made = OPERATIONS[operation]
    mode = data.draw(st.sampled_from(GenerationMode)) if made.body else GenerationMode.POSITIVE
    case = data.draw(made.as_strategy(generation_mode=mode))
    case.path_parameters |= {"name": "e", "served": "current"}
    answer = case.call(app=api.app)
    not_built = answer.status_code == 501  # declared where it may be, so the other checks still say whether it may
    case.validate_response(answer, checks=CHECKS[1:] if not_built else CHECKS)
