"""The description of the control API that the project ships, and thousands of requests made from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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

from controlplane import keys
from controlplane.api import create_app
from controlplane.api.deps import Auth
from controlplane.domain import Endpoint, UpdateState
from controlplane.rollout import lifecycle
from controlplane.store import Endpoints, Secrets, Store, Tokens
from controlplane.watch import WatchedMap
from tests.controlplane.api.harness import PATH, Api, config

DESCRIPTION = Path(__file__).parents[3] / "docs" / "openapi.yaml"
CALLER = {"x-wye-user": "admin", "x-wye-groups": ",admins,"}


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
    """An API with tokens and secrets, whose updates end at once."""
    folder = tmp_path_factory.mktemp("openapi")
    key = keys.load_or_make(folder / "keys")
    with Store(f"sqlite:///{folder}/wye.db") as store:
        made, tokens = Api(store), Tokens(store)
        tokens.add(key.admin)
        made.deps = replace(
            made.deps,
            endpoints=EndsAtOnce(store, WatchedMap()),
            auth=Auth(key.signer, tokens, key.admin, lambda: ""),
            secrets=Secrets(store, keys.secrets_key(folder / "keys")),
        )
        made.app = create_app(made.deps)
        made.client = made.app.test_client()
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
        if method.lower() in methods
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
    endpoint = api.client.get(f"{PATH}/e", headers=CALLER)
    if endpoint.status_code == 404:
        endpoint = api.client.post(PATH, json={"name": "e", "config": config()}, headers=CALLER)
    known = _known(api) if data.draw(st.booleans()) else {}  # what is made up is hardly ever there
    made = OPERATIONS[operation]
    mode = data.draw(st.sampled_from(GenerationMode)) if made.body else GenerationMode.POSITIVE
    case = data.draw(made.as_strategy(generation_mode=mode))
    case.path_parameters |= {"name": "e", "served": "current", "endpoint_id": endpoint.get_json()["id"]}
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            part.update({name: known[name] for name in part.keys() & known.keys()})
    answer = case.call(app=api.app, headers=CALLER)
    not_built = answer.status_code == 501  # declared where it may be, so the other checks still say whether it may
    case.validate_response(answer, checks=CHECKS[1:] if not_built else CHECKS)


def _known(api: Api) -> dict[str, str]:
    """A scope, a secret in it, somebody who may use it, and a token: all there."""
    for path, body in (
        ("secrets/scopes/create", {"scope": "s"}),
        ("secrets/put", {"scope": "s", "key": "k", "string_value": "v"}),
        ("secrets/acls/put", {"scope": "s", "principal": "p", "permission": "READ"}),
        ("token/create", {}),
    ):
        answer = api.client.post(f"/api/2.0/{path}", json=body, headers=CALLER)
    return {"scope": "s", "key": "k", "principal": "p", "token_id": answer.get_json()["token_info"]["token_id"]}
