"""While the database or the registry is away: calls that need it are 503 and say who is away, all others are answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from controlplane import keys
from controlplane.api import create_app
from controlplane.api.deps import Auth
from controlplane.domain import ProblemCode
from controlplane.store import Secrets, Store, Tokens
from tests.controlplane.api.harness import PATH, Api, config

ADMIN = {"x-wye-user": "admin", "x-wye-groups": ",admins,"}
CONFIG = config(version="5")
ACL = "/api/2.0/permissions/serving-endpoints/<id>"
SECRETS = "/api/2.0/secrets"
#: Who needs to be there for a call, with the body that it is made with.
DATABASE, REGISTRY, NOBODY = "database", "registry", "nobody"
CALLS: dict[str, tuple[str, Any]] = {
    f"POST {PATH}": (REGISTRY, {"name": "new", "config": CONFIG}),
    f"POST {PATH} without a config": (DATABASE, {"name": "new"}),
    f"GET {PATH}": (NOBODY, None),
    f"GET {PATH}/e": (NOBODY, None),
    f"PUT {PATH}/e": (REGISTRY, {"config": CONFIG}),
    f"DELETE {PATH}/e": (DATABASE, None),
    f"PUT {PATH}/e/config": (REGISTRY, CONFIG),
    f"PUT {PATH}/e/config of other weights": (DATABASE, config(50)),
    f"GET {PATH}/e/config-versions": (DATABASE, None),
    f"POST {PATH}/e/config:stop": (DATABASE, {}),
    f"POST {PATH}/e/config:rollback": (DATABASE, {"config_version": 1}),
    f"PUT {PATH}/e/rate-limits": (DATABASE, {"rate_limits": [{"calls": 5, "renewal_period": "minute"}]}),
    f"PUT {PATH}/e/ai-gateway": (DATABASE, {"usage_tracking_config": {"enabled": True}}),
    f"PATCH {PATH}/e/tags": (DATABASE, {"add_tags": [{"key": "a", "value": "b"}]}),
    f"PATCH {PATH}/e/notifications": (DATABASE, {"email_notifications": {"on_update_failure": ["a@b.c"]}}),
    f"GET {PATH}/e/metrics": (NOBODY, None),
    f"GET {PATH}/e/openapi": (REGISTRY, None),
    f"GET {PATH}/e/ready": (NOBODY, None),
    f"GET {PATH}/e/served-models/current/logs": (NOBODY, None),
    f"GET {PATH}/e/served-models/current/build-logs": (NOBODY, None),
    f"GET {ACL}": (NOBODY, None),
    f"GET {ACL}/permissionLevels": (NOBODY, None),
    f"PATCH {ACL}": (DATABASE, {"access_control_list": [{"user_name": "a", "permission_level": "CAN_VIEW"}]}),
    f"PUT {ACL}": (DATABASE, {"access_control_list": [{"user_name": "a", "permission_level": "CAN_VIEW"}]}),
    "GET /api/2.0/preview/scim/v2/Me": (NOBODY, None),
    "POST /api/2.0/token/create": (DATABASE, {"comment": "c"}),
    "GET /api/2.0/token/list": (DATABASE, None),
    "POST /api/2.0/token-management/on-behalf-of/tokens": (DATABASE, {"application_id": "a", "comment": "c"}),
    "POST /api/2.0/token/delete": (DATABASE, {"token_id": "t"}),
    "GET /api/2.0/token-management/tokens": (DATABASE, None),
    "GET /api/2.0/token-management/tokens/t": (DATABASE, None),
    "DELETE /api/2.0/token-management/tokens/t": (DATABASE, None),
    f"POST {SECRETS}/scopes/create": (DATABASE, {"scope": "new"}),
    f"GET {SECRETS}/scopes/list": (DATABASE, None),
    f"POST {SECRETS}/scopes/delete": (DATABASE, {"scope": "s"}),
    f"POST {SECRETS}/delete": (DATABASE, {"scope": "s", "key": "k"}),
    f"POST {SECRETS}/acls/put": (DATABASE, {"scope": "s", "principal": "p", "permission": "READ"}),
    f"POST {SECRETS}/put": (DATABASE, {"scope": "s", "key": "k", "string_value": "v"}),
    f"GET {SECRETS}/list?scope=s": (DATABASE, None),
    f"GET {SECRETS}/acls/list?scope=s": (DATABASE, None),
    "GET /api/2.0/wye/health": (NOBODY, None),
    "GET /api/2.0/wye/metrics": (NOBODY, None),
    "GET /api/2.0/wye/status": (NOBODY, None),
    "GET /api/2.0/wye/models": (REGISTRY, None),
    "GET /api/2.0/wye/model-versions?name=churn": (REGISTRY, None),
}


class Live:
    """The API with tokens, secrets and an endpoint `e` that serves, on a database that can be taken away."""

    def __init__(self, folder: Path) -> None:
        self._home, self._away = folder / "here", folder / "elsewhere"
        self._home.mkdir()
        self.store = Store(f"sqlite:///{self._home}/wye.db")
        self.api = Api(self.store)
        made, tokens = keys.load_or_make(folder / "keys"), Tokens(self.store)
        secrets = Secrets(self.store, keys.secrets_key(folder / "keys"))
        tokens.add(made.admin)
        deps = replace(self.api.with_auth(Auth(made.signer, tokens, made.admin, lambda: "")), secrets=secrets)
        self.client: FlaskClient = create_app(deps).test_client()
        assert self.call(f"POST {PATH}", {"name": "e", "config": config()}).status_code == 200
        self.api.succeed("e")
        self.id = self.call(f"GET {PATH}/e").get_json()["id"]

    def call(self, call: str, body: Any = None) -> Any:
        """An admin's call."""
        method, path = call.split(" ")[:2]
        path = path.replace("<id>", getattr(self, "id", ""))
        return self.client.open(path, method=method, headers=ADMIN, json=body)

    def take_database(self) -> None:
        """Nobody finds it any more."""
        self.store.engine.dispose()
        self._home.rename(self._away)

    def bring_database(self) -> None:
        """It is back."""
        self._away.rename(self._home)


@pytest.fixture(scope="module")
def without_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Calls change nothing there, so all are made of one."""
    live = Live(tmp_path_factory.mktemp("away"))
    live.take_database()
    yield live
    live.bring_database()
    assert live.call(f"PUT {PATH}/e/config", CONFIG).status_code == 200, "all is well when it is back"
    live.store.close()


@pytest.fixture(scope="module")
def without_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The same, when the calls that change something leave it alone."""
    live = Live(tmp_path_factory.mktemp("away"))
    live.api.registry.away = "connection refused"
    yield live
    live.store.close()


@pytest.mark.parametrize("call", CALLS)
def test_without_the_database(without_database: Live, call: str) -> None:
    """What is written, and what is read from it, is refused; what is served, and all that is known of it, is told."""
    needs, body = CALLS[call]
    if needs == REGISTRY and call.startswith("GET"):
        needs = NOBODY
    answer = without_database.call(call, body)
    _expect(answer, "The database ", needed=needs != NOBODY)


@pytest.mark.parametrize("call", [call for call, (needs, _) in CALLS.items() if needs != DATABASE])
def test_without_the_registry(without_registry: Live, call: str) -> None:
    """Only what has to be looked up is refused: other versions, and the names of models."""
    needs, body = CALLS[call]
    answer = without_registry.call(call, body)
    _expect(answer, "the MLflow registry at fake: does not answer: connection refused", needed=needs == REGISTRY)


def _expect(answer: Any, away: str, *, needed: bool) -> None:
    unavailable = (503, ProblemCode.TEMPORARILY_UNAVAILABLE.code)
    if needed:
        said = answer.get_json()
        assert (answer.status_code, said["error_code"]) == unavailable
        assert away in said["message"]
        assert answer.headers["retry-after"] == "1"
    else:
        assert answer.status_code < 500
