"""Tokens, permissions and secrets through all of Wye: the command line, the SDK, Envoy, the control plane and a replica."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import PermissionDenied, Unauthenticated
from databricks.sdk.service.serving import ServingEndpointAccessControlRequest, ServingEndpointPermissionLevel

from controlplane.translate import openai
from tests.controlplane.api.test_api_permissions import CALLS
from tests.e2e.test_envoy_access import tampered
from tests.e2e.wye import EXAMPLE, Wye, config, until
from tests.processes import alive

CAN_QUERY = ServingEndpointPermissionLevel.CAN_QUERY


def cli(wye: Wye, *arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
    """`wye tokens …` with the state directory's token, or another."""
    command = [sys.executable, "-m", "controlplane.cli", "tokens", *arguments, "--url", wye.url]
    environment = {**os.environ, "WYE_TOKEN": token or wye.token}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def new_token(wye: Wye, user: str, *groups: str, **more: Any) -> tuple[str, str]:
    """A token for a user, and its id."""
    body = {"user_name": user, "groups": list(groups), **more}
    made = wye.client.post("/api/2.0/token/create", json=body).json()
    return made["token_value"], made["token_info"]["token_id"]


def call(wye: Wye, token: str, path: str, method: str = "POST") -> httpx.Response:
    """A call with a token, or with none."""
    headers = {"authorization": f"Bearer {token}" if token else ""}
    return wye.client.request(method, path, json=EXAMPLE, headers=headers)


@pytest.fixture(scope="module")
def endpoint(wye: Wye) -> Iterator[dict[str, Any]]:
    """An endpoint of the admin's."""
    yield wye.create("private", config({"m": 100}, m="linear/1"))
    wye.remove("private")


def test_a_token_from_creation_to_revocation(wye: Wye, endpoint: dict[str, Any]) -> None:
    """Made, listed and revoked on the command line; what it may is what was granted; no log has ever held it."""
    made = cli(wye, "create", "--user", "alice", "--group", "ds", "--lifetime", "90d", "--comment", "notebook")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    predict = "/serving-endpoints/private/invocations"
    assert call(wye, token, predict).status_code == 403
    alice = {"group_name": "ds", "permission_level": "CAN_QUERY"}
    permissions = f"/api/2.0/permissions/serving-endpoints/{endpoint['id']}"
    assert wye.client.patch(permissions, json={"access_control_list": [alice]}).status_code == 200
    assert call(wye, token, predict).status_code == 200, "what was answered as done was not in force"
    assert wye.client.put(permissions, json={}).status_code == 200
    assert call(wye, token, predict).status_code == 403
    assert call(wye, token, "/api/2.0/serving-endpoints/private", "GET").status_code == 403
    (line,) = [line for line in cli(wye, "list").stdout.splitlines() if "notebook" in line]
    assert "alice" in line
    assert cli(wye, "list", token=token).returncode == 1
    revoked = cli(wye, "revoke", line.split()[0])
    assert revoked.returncode == 0, revoked.stderr
    for path in (predict, "/api/2.0/serving-endpoints/private"):
        answer = call(wye, token, path, "POST" if path == predict else "GET")
        assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")
    logs = "".join(file.read_text(errors="replace") for file in (wye.state_dir / "logs").rglob("*.log"))
    for secret in (token, token.split(".")[2], wye.token, wye.token.split(".")[2]):
        assert secret not in logs


def test_a_revocation_is_everywhere_within_a_second(wye: Wye) -> None:
    """The answer comes when Envoy has acknowledged it, which takes milliseconds; the next request is refused."""
    took = []
    for _ in range(5):
        token, token_id = new_token(wye, "admin", "admins")
        assert call(wye, token, "/api/2.0/wye/status", "GET").status_code == 200
        began = time.perf_counter()
        assert wye.client.post("/api/2.0/token/delete", json={"token_id": token_id}).json() == {}
        took.append(time.perf_counter() - began)
        assert call(wye, token, "/api/2.0/wye/status", "GET").status_code == 401
    assert min(took) < 1.0, took


def test_without_a_valid_token_nothing_can_be_called(wye: Wye, endpoint: dict[str, Any]) -> None:
    """Every call there is, with no token, with one that was changed, and with one that was revoked."""
    token, token_id = new_token(wye, "admin", "admins")
    assert wye.client.post("/api/2.0/token/delete", json={"token_id": token_id}).json() == {}
    predictions = ["<name>/invocations", "<name>/served-models/<served>/invocations", *openai.PATHS]
    for line in [*CALLS, *(f"POST /serving-endpoints/{path}" for path in predictions)]:
        method, path = line.split(" ")
        path = path.replace("<name>", "private").replace("<endpoint_id>", endpoint["id"]).replace("<served>", "m")
        for what in ("", tampered(wye.token), token):
            answer = call(wye, what, path.replace("<token_id>", "x"), method)
            assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED"), line


def test_permissions_hold_while_the_control_plane_is_dead(start: Callable[..., Wye]) -> None:
    """With the control plane killed and not restarted: 200, 403 and 401 as before, for those who may, may not, may no more."""
    wye = start()
    created = wye.create("ep", config({"m": 100}, m="linear/1"))
    tokens = {user: new_token(wye, user) for user in ("alice", "bob", "gone")}
    acl = [{"user_name": user, "permission_level": "CAN_QUERY"} for user in ("alice", "gone")]
    path = f"/api/2.0/permissions/serving-endpoints/{created['id']}"
    assert wye.client.put(path, json={"access_control_list": acl}).status_code == 200
    assert wye.client.post("/api/2.0/token/delete", json={"token_id": tokens["gone"][1]}).json() == {}
    control_plane = psutil.Process(until(lambda: wye.pid("controlplane")))
    wye.process.send_signal(signal.SIGSTOP)  # `wye up` would start another
    try:
        control_plane.kill()
        until(lambda: not alive(control_plane))
        until(lambda: wye.client.get("/api/2.0/serving-endpoints").status_code == 503)
        for _ in range(20):
            statuses = [
                call(wye, token, "/serving-endpoints/ep/invocations").status_code for token, _ in tokens.values()
            ]
            assert statuses == [200, 403, 401]
        assert call(wye, wye.token, "/serving-endpoints/ep/invocations").status_code == 200
    finally:
        wye.process.send_signal(signal.SIGCONT)
    until(lambda: wye.client.get("/api/2.0/serving-endpoints").status_code == 200, 60)
    assert call(wye, tokens["gone"][0], "/api/2.0/serving-endpoints", "GET").status_code == 401
    assert wye.client.get(path).json()["access_control_list"][1]["user_name"] == "alice"


def test_secrets_reach_the_model_and_nobody_else(wye: Wye) -> None:
    """The replica's environment has the value; config, logs, command lines and the database have the reference."""
    client = WorkspaceClient(host=wye.url, token=wye.token)
    client.secrets.create_scope("prod")
    client.secrets.put_secret("prod", "db", string_value="tiger-42")
    assert [secret.key for secret in client.secrets.list_secrets("prod")] == ["db"]
    entity = {
        "entity_name": "environment",
        "entity_version": "1",
        "environment_vars": {"DB": "{{secrets/prod/db}}", "PLAIN": "p"},
    }
    created = wye.create("secretive", {"served_entities": [entity]})
    assert created["state"]["ready"] == "READY", created
    assert created["config"]["served_entities"][0]["environment_vars"]["DB"] == "{{secrets/prod/db}}"
    answer = wye.predict("secretive", body={"dataframe_records": [{"name": "DB"}, {"name": "PLAIN"}]})
    assert answer.json() == {"predictions": ["tiger-42", "p"]}
    wye.remove("secretive")
    client.secrets.delete_scope("prod")
    files = [file for file in wye.state_dir.rglob("*") if file.is_file()]
    assert not [file for file in files if b"tiger-42" in file.read_bytes()]
    client.api_client._api_client._session.close()


def test_the_sdk_manages_tokens_and_permissions(wye: Wye, endpoint: dict[str, Any]) -> None:
    """The SDK's own calls and exceptions, for an admin and for a user who is let in and shut out again."""
    client = WorkspaceClient(host=wye.url, token=wye.token)
    me = client.current_user.me()
    assert (me.user_name, me.active, client.get_workspace_id()) == ("admin", True, 1)
    text, token_id = new_token(wye, "carl")
    assert token_id in {info.token_id for info in client.token_management.list()}
    carl = WorkspaceClient(host=wye.url, token=text)
    assert carl.current_user.me().user_name == "carl"
    own = carl.tokens.create(comment="mine", lifetime_seconds=3600)
    assert {info.token_id for info in carl.tokens.list()} == {token_id, own.token_info.token_id}
    with pytest.raises(PermissionDenied, match="carl"):
        carl.serving_endpoints.query("private", dataframe_records=[{"x": 1.0, "y": 2.0}])
    grant = ServingEndpointAccessControlRequest(user_name="carl", permission_level=CAN_QUERY)
    acl = client.serving_endpoints.update_permissions(endpoint["id"], access_control_list=[grant])
    assert [line.user_name for line in acl.access_control_list if line.user_name] == ["admin", "carl"]
    assert carl.serving_endpoints.query("private", dataframe_records=[{"x": 1.0, "y": 2.0}]).predictions == [21.0]
    assert [each.name for each in carl.serving_endpoints.list()] == ["private"]
    assert carl.serving_endpoints.get("private").permission_level.value == "CAN_QUERY"
    with pytest.raises(PermissionDenied, match="CAN_MANAGE"):
        carl.serving_endpoints.delete("private")
    levels = client.serving_endpoints.get_permission_levels(endpoint["id"]).permission_levels
    assert [level.permission_level.value for level in levels] == ["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]
    client.serving_endpoints.set_permissions(endpoint["id"], access_control_list=[])
    carl.tokens.delete(own.token_info.token_id)
    client.token_management.delete(token_id)
    with pytest.raises(Unauthenticated):
        carl.current_user.me()
    for each in (client, carl):
        each.api_client._api_client._session.close()


def test_rate_limits_of_the_api_are_kept_by_envoy(wye: Wye) -> None:
    """From the next request on; with Retry-After, and away again when they are removed."""
    wye.create("limited", config({"m": 100}, m="linear/1"))
    limits = {"rate_limits": [{"calls": 3, "renewal_period": "minute", "key": "user"}]}
    path = "/api/2.0/serving-endpoints/limited/rate-limits"
    assert wye.client.put(path, json=limits).status_code == 200
    *passed, answer = [wye.predict("limited") for _ in range(4)]
    assert [each.status_code for each in passed] == [200] * 3
    assert answer.status_code == 429, "what was answered as done was not in force"
    assert answer.json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert int(answer.headers["retry-after"]) > 0
    token, _ = new_token(wye, "other", "admins")
    assert call(wye, token, "/serving-endpoints/limited/invocations").status_code == 200
    assert wye.client.put(path, json={"rate_limits": []}).status_code == 200
    assert wye.predict("limited").status_code == 200
    wye.remove("limited")


def test_what_a_user_has_set_is_not_lost_at_an_update(wye: Wye, endpoint: dict[str, Any]) -> None:
    """Grants stay through updates of the config, and go with the endpoint."""
    path = f"/api/2.0/permissions/serving-endpoints/{endpoint['id']}"
    acl = {"access_control_list": [{"user_name": "alice", "permission_level": "CAN_QUERY"}]}
    before = wye.client.put(path, json=acl).json()
    wye.update("private", config({"m": 100}, m="linear/2"))
    assert wye.client.get(path).json() == before
    token, _ = new_token(wye, "alice")
    assert json.loads(call(wye, token, "/serving-endpoints/private/invocations").text) == {"predictions": [42.0]}
    assert wye.client.put(path, json={}).status_code == 200


def test_grants_that_change_nothing_for_envoy_are_answered_at_once(wye: Wye, endpoint: dict[str, Any]) -> None:
    """To view only, to one who is let in already, or the same again: there is no acknowledgement to wait for."""
    path = f"/api/2.0/permissions/serving-endpoints/{endpoint['id']}"
    everybody, alice = {"group_name": "users"}, {"user_name": "alice"}
    query, view = {"permission_level": "CAN_QUERY"}, {"permission_level": "CAN_VIEW"}
    for acl in ([], [alice | view], [everybody | query], [everybody | query, alice | query], [everybody | query], []):
        answer = wye.client.put(path, json={"access_control_list": acl})
        assert answer.status_code == 200, answer.text
