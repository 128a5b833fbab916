"""Secrets over the API, and in the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from werkzeug.test import TestResponse

from controlplane import keys
from controlplane.store import Secrets
from tests.controlplane.api.harness import Guarded, config

EP = "/api/2.0/serving-endpoints"


def test_secrets_are_used_by_who_may_and_shown_to_nobody(guarded: Guarded, tmp_path: Path) -> None:
    """A config may refer to a secret that its author may read; a missing one is named; no answer or file has a value."""
    secret = "tiger-42"

    def call(path: str, user: str = "owner", **body: str) -> TestResponse:
        return guarded.call("POST", f"/api/2.0/secrets/{path}", user, [], json=body)

    assert call("scopes/create", scope="prod").get_json() == {}
    assert call("scopes/create", scope="prod").get_json()["error_code"] == "RESOURCE_ALREADY_EXISTS"
    assert call("put", scope="prod", key="db", string_value=secret).get_json() == {}
    assert call("put", "stranger", scope="prod", key="db", string_value="x").status_code == 404
    answers = [
        guarded.call("GET", "/api/2.0/secrets/list?scope=prod", "owner"),
        guarded.call("GET", "/api/2.0/secrets/get?scope=prod&key=db", "owner"),
        guarded.call("POST", "/api/2.0/secrets/put", "owner", data=f'{{"string_value": "{secret}'),
        call("put", scope="prod", key="/", string_value=secret),
        call("put", scope="prod", key="db", string_value=secret, bytes_value="!"),
        call("put", scope="prod", key="db", bytes_value=f"{secret}!"),
    ]

    def create(name: str, user: str, value: str) -> TestResponse:
        body: dict[str, Any] = {"name": name, "config": config()}
        body["config"]["served_entities"][0]["environment_vars"] = {"DB": value}
        return guarded.call("POST", EP, user, [], json=body)

    made = create("s", "owner", "{{secrets/prod/db}}")
    assert made.get_json()["pending_config"]["served_models"][0]["environment_vars"] == {"DB": "{{secrets/prod/db}}"}
    missing = create("t", "owner", "{{secrets/prod/gone}}")
    assert (missing.status_code, missing.get_json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "{{secrets/prod/gone}}" in missing.get_json()["message"]
    assert create("t", "stranger", "{{secrets/prod/db}}").status_code == 403
    assert call("acls/put", scope="prod", principal="stranger", permission="READ").get_json() == {}
    assert create("t", "stranger", "{{secrets/prod/db}}").status_code == 200
    assert call("put", "stranger", scope="prod", key="db", string_value="x").status_code == 403
    assert all(secret not in answer.get_data(as_text=True) for answer in [*answers, made])
    guarded.api.store.close()
    assert all(secret.encode() not in file.read_bytes() for file in tmp_path.glob("wye.db*"))


def test_who_manages_an_endpoint_gets_no_secrets_of_it_that_way(guarded: Guarded) -> None:
    """Another model, another variable beside it, or an earlier config with a secret need READ; all else of it may be changed."""

    def call(path: str, **body: object) -> None:
        assert guarded.call("POST", f"/api/2.0/{path}", "owner", [], json=body).status_code == 200

    call("secrets/scopes/create", scope="prod")
    call("secrets/put", scope="prod", key="db", string_value="tiger-42")

    def document(version: str = "3", **environment: str) -> dict[str, Any]:
        body = config()
        body["served_entities"][0] |= {"entity_version": version, "environment_vars": environment}
        return body

    secret = {"DB": "{{secrets/prod/db}}"}
    call("serving-endpoints", name="s", config=document(**secret))
    guarded.api.succeed("s")
    endpoint = guarded.api.store.get("s")
    assert endpoint
    granted = [{"user_name": "manager", "permission_level": "CAN_MANAGE"}]
    path = f"/api/2.0/permissions/serving-endpoints/{endpoint.id}"
    assert guarded.call("PUT", path, "owner", [], json={"access_control_list": granted}).status_code == 200

    def put(body: dict[str, Any], user: str = "manager") -> int:
        status = guarded.call("PUT", f"{EP}/s/config", user, [], json=body).status_code
        if status == 200:
            guarded.api.succeed("s")
        return status

    assert put(document("4", **secret)) == 403
    assert put(document(HTTPS_PROXY="http://mine", **secret)) == 403
    resized = document(**secret)
    resized["served_entities"][0]["workload_size"] = "Medium"
    assert put(resized) == 200
    assert put(document(), "owner") == 200
    for query in ("", "?dry_run=true"):
        answer = guarded.call("POST", f"{EP}/s/config:rollback{query}", "manager", [], json={"config_version": 1})
        assert "may not read the scope prod" in answer.get_data(as_text=True)
        assert answer.status_code == (200 if query else 403)
    assert guarded.call("POST", f"{EP}/s/config:rollback", "owner", [], json={"config_version": 1}).status_code == 200


def test_a_secret_cannot_be_moved_to_where_others_may_read_it(guarded: Guarded, tmp_path: Path) -> None:
    """Its place is part of what is encrypted, and without the key's file there is no value."""
    store = Secrets(guarded.api.store, keys.secrets_key(tmp_path / "keys"))
    store.make_scope("a", "owner")
    store.put("a", "k", b"v", 1)
    assert store.value("a", "k") == b"v"
    with guarded.api.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE secrets SET key = 'moved'")
    assert store.value("a", "moved") is None
    assert Secrets(guarded.api.store, keys.secrets_key(tmp_path / "other")).value("a", "moved") is None
