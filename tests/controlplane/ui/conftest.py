"""The page on a real API and a real store, asked as Envoy passes requests on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from controlplane import keys
from controlplane.api import create_app
from controlplane.api.deps import Auth
from controlplane.domain import EnvoyStatus, Rejection, Token, membership
from controlplane.load_history import LoadHistory
from controlplane.store import Store, Tokens
from controlplane.ui import PageDeps, create_page
from controlplane.ui.deps import SignIn
from tests.controlplane.api.harness import Api

#: What breaks out of an attribute or a string in a page that does not escape it, or is computed by one that renders it.
ATTACK = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{7919*7927}}'

#: What the control plane says of itself, with an Envoy that says what nobody expects.
STATUS = {
    "version": "1",
    "envoys": [
        asdict(EnvoyStatus(ATTACK, "c", "1.40.0", "envoy", True, 0, (), Rejection(ATTACK, "x", "r", "1", ATTACK, 0)))
    ],
    "worker_host": {"connected": True},
    "endpoints": 1,
    "replicas": [{"phase": "READY"}],
}


@dataclass
class Page:
    """The page, and requests of it by whomever the test names."""

    api: Api
    tokens: Tokens
    made: keys.Keys
    client: FlaskClient
    history: LoadHistory = field(default_factory=LoadHistory)

    def get(self, path: str, user: str = "admin", *groups: str, **more: Any) -> TestResponse:
        """GET by a user, by an admin unless another is named."""
        return self.client.get(path, headers={**_as(user, groups), **more.pop("headers", {})}, **more)

    def post(self, path: str, form: dict[str, Any] | None = None, user: str = "admin", **more: Any) -> TestResponse:
        """A form that the user was given, sent as a browser does."""
        data = {"form_token": self.secret(user), **(form or {})}
        return self.client.post(path, data=data, headers={**_as(user, ()), **more.pop("headers", {})}, **more)

    def secret(self, user: str = "admin") -> str:
        """The secret of the user's forms."""
        found = re.search(r'name="form_token" value="(\w+)"', self.get("/ui/create/", user).text)
        assert found is not None
        return found[1]

    def token(self, user: str, **more: Any) -> tuple[str, Token]:
        """A token that was made here."""
        known = {"comment": "", "creator": "admin", "now_ms": 1_000, "expires_ms": None}
        text, token = self.made.signer.sign(user, (), **{**known, **more})
        self.tokens.add(token)
        return text, token


def _as(user: str, groups: tuple[str, ...]) -> dict[str, str]:
    members = [*groups, *(["admins"] if user == "admin" else [])]
    return {"x-wye-user": user.encode().decode("latin-1"), "x-wye-groups": membership(tuple(members))}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page without endpoints, with tokens on."""
    with Store(f"sqlite:///{tmp_path}/wye.db") as store:
        api = Api(store)
        made, tokens, history = keys.load_or_make(tmp_path / "keys"), Tokens(store), LoadHistory()
        served = api.with_auth(Auth(made.signer, tokens, made.admin, announce=lambda: ""))
        app = create_app(replace(served, status=lambda: STATUS))
        deps = PageDeps(
            api=app,
            endpoints=api.endpoints,
            clock=api.clock,
            history=history,
            form_key=b"key",
            replicas_of=lambda endpoint_id: api.replicas.get(endpoint_id, ()),
            sign_in=SignIn(made.signer, tokens, "wye-session"),
        )
        yield Page(api, tokens, made, create_page(deps).test_client(), history)
