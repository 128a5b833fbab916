"""Any body at all, sent to every call about permissions, tokens and secrets: JSON, no 5xx, and a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from controlplane import keys
from controlplane.api import create_app
from controlplane.api.deps import Auth
from controlplane.store import Secrets, Store, Tokens
from tests.controlplane.api.harness import PATH, Api
from tests.controlplane.api.test_api_errors import code_of

ADMIN = {"x-wye-user": "admin", "x-wye-groups": ",admins,"}
CALLS = (
    ("PUT", "/api/2.0/permissions/serving-endpoints/{id}"),
    ("PATCH", "/api/2.0/permissions/serving-endpoints/{id}"),
    ("POST", "/api/2.0/token/create"),
    ("POST", "/api/2.0/token/delete"),
    ("POST", "/api/2.0/token-management/on-behalf-of/tokens"),
    ("POST", "/api/2.0/secrets/scopes/create"),
    ("POST", "/api/2.0/secrets/scopes/delete"),
    ("POST", "/api/2.0/secrets/put"),
    ("POST", "/api/2.0/secrets/delete"),
    ("POST", "/api/2.0/secrets/acls/put"),
    ("POST", "/api/2.0/secrets/acls/delete"),
    ("POST", "/api/2.0/serving-endpoints/pt"),
    ("PUT", "/api/2.0/serving-endpoints/pt/fixed/config"),
    ("POST", "/api/2.0/external-function"),
)

_KEYS = st.sampled_from(
    [
        *("access_control_list", "user_name", "group_name", "service_principal_name", "permission_level"),
        *("comment", "lifetime_seconds", "groups", "application_id", "token_id"),
        *("scope", "key", "string_value", "bytes_value", "principal", "permission", "initial_manage_principal", "zzz"),
    ]
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["s", "k", "alice", "users", "CAN_QUERY", "CAN_MANAGE", "READ", "MANAGE", "\0", "\ud800", " x", "a" * 300]),
)  # fmt: skip
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=8
)


class Kept:
    """The API with tokens and secrets, and how many rows were ever written for it."""

    def __init__(self, api: Api, folder: Path) -> None:
        key = keys.load_or_make(folder)
        tokens = Tokens(api.store)
        tokens.add(key.admin)
        auth = Auth(key.signer, tokens, key.admin, lambda: "")
        deps = replace(api.deps, auth=auth, secrets=Secrets(api.store, keys.secrets_key(folder)))
        self.client = create_app(deps).test_client()
        self.written = 0
        event.listen(api.store.engine, "after_cursor_execute", self._executed)
        self.endpoint_id = self.client.post(PATH, json={"name": "fixed"}, headers=ADMIN).get_json()["id"]
        assert self.written

    def _executed(self, _connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("SELECT", "PRAGMA")):
            self.written += max(cursor.rowcount, 0)

    def send(self, method: str, path: str, sent: dict[str, Any]) -> None:
        """The call, and what has to hold whatever is sent."""
        before = self.written
        answer = self.client.open(path.format(id=self.endpoint_id), method=method, headers=ADMIN, **sent)
        if answer.status_code == 200:
            assert isinstance(answer.get_json(), dict)
            return
        status, _ = code_of(answer)
        assert 400 <= status < 500 or status == 501
        assert self.written == before, "a refusal has written something"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """One for all bodies: what some of them make is there for the next."""
    folder = tmp_path_factory.mktemp("generated")
    with Store(f"sqlite:///{folder}/wye.db") as store:
        with closing(store.engine.raw_connection()) as connection:
            connection.driver_connection.execute("PRAGMA synchronous=OFF")  # no power fails
        yield Kept(Api(store), folder / "keys")


@settings(deadline=None, max_examples=450, suppress_health_check=[HealthCheck.too_slow])
@given(body=st.dictionaries(_KEYS, _JSON, max_size=5))
def test_any_object_gets_an_answer(kept: Kept, body: dict[str, Any]) -> None:
    """Whatever the object holds, every call understands it or refuses it with words."""
    for method, path in CALLS:
        kept.send(method, path, {"json": body})


@settings(deadline=None, max_examples=50)
@given(body=st.binary(max_size=40) | _JSON.map(lambda value: repr(value).encode("utf-8", "replace")))
def test_any_bytes_get_an_answer(kept: Kept, body: bytes) -> None:
    """Bytes that are no JSON object, or only look like one, are refused in the same way."""
    for method, path in CALLS:
        kept.send(method, path, {"data": body, "content_type": "application/json"})
