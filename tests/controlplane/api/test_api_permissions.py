"""Who may make which call: every call of the API, at every level, by everybody who could have that level."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from werkzeug.test import TestResponse

from controlplane import keys
from controlplane.api import create_app
from controlplane.api.deps import Auth
from controlplane.domain import Grant, Permission, PrincipalKind
from controlplane.store import Tokens
from tests.controlplane.api.harness import Guarded, config

EP = "/api/2.0/serving-endpoints"
ACL = "/api/2.0/permissions/serving-endpoints"
VIEW, QUERY, MANAGE = Permission
#: What a call takes: a level on the endpoint, "admin", or "all" for whoever has a token.
CALLS: dict[str, str | Permission] = {
    f"POST {EP}": "all",
    f"GET {EP}": "all",
    f"GET {EP}/<name>": VIEW,
    f"PUT {EP}/<name>": MANAGE,
    f"DELETE {EP}/<name>": MANAGE,
    f"PUT {EP}/<name>/config": MANAGE,
    f"GET {EP}/<name>/config-versions": VIEW,
    f"POST {EP}/<name>/config:stop": MANAGE,
    f"POST {EP}/<name>/config:start": MANAGE,
    f"POST {EP}/<name>/config:cancel": MANAGE,
    f"POST {EP}/<name>/config:rollback": MANAGE,
    f"PUT {EP}/<name>/rate-limits": MANAGE,
    f"PUT {EP}/<name>/ai-gateway": MANAGE,
    f"PATCH {EP}/<name>/tags": MANAGE,
    f"PATCH {EP}/<name>/notifications": MANAGE,
    f"PATCH {EP}/<name>/telemetry-config": MANAGE,
    f"GET {EP}/<name>/metrics": VIEW,
    f"GET {EP}/<name>/openapi": VIEW,
    f"GET {EP}/<name>/ready": VIEW,
    f"GET {EP}/<name>/served-models/<served>/logs": MANAGE,
    f"GET {EP}/<name>/served-models/<served>/build-logs": MANAGE,
    f"POST {EP}/pt": "all",
    f"PUT {EP}/pt/<name>/config": MANAGE,
    f"GET {ACL}/<endpoint_id>": VIEW,
    f"PUT {ACL}/<endpoint_id>": MANAGE,
    f"PATCH {ACL}/<endpoint_id>": MANAGE,
    f"GET {ACL}/<endpoint_id>/permissionLevels": VIEW,
    "GET /api/2.0/preview/scim/v2/Me": "all",
    "POST /api/2.0/token/create": "all",
    "GET /api/2.0/token/list": "all",
    "POST /api/2.0/token/delete": "all",
    "GET /api/2.0/token-management/tokens": "admin",
    "GET /api/2.0/token-management/tokens/<token_id>": "admin",
    "DELETE /api/2.0/token-management/tokens/<token_id>": "admin",
    "POST /api/2.0/token-management/on-behalf-of/tokens": "admin",
    "POST /api/2.0/secrets/scopes/create": "all",
    "GET /api/2.0/secrets/scopes/list": "all",
    "POST /api/2.0/secrets/scopes/delete": "all",
    "POST /api/2.0/secrets/put": "all",
    "GET /api/2.0/secrets/list": "all",
    "GET /api/2.0/secrets/get": "all",
    "POST /api/2.0/secrets/delete": "all",
    "POST /api/2.0/secrets/acls/put": "all",
    "GET /api/2.0/secrets/acls/list": "all",
    "GET /api/2.0/secrets/acls/get": "all",
    "POST /api/2.0/secrets/acls/delete": "all",
    "POST /api/2.0/external-function": "admin",
    "GET /api/2.0/wye/health": "all",
    "GET /api/2.0/wye/metrics": "all",
    "GET /api/2.0/wye/models": "all",
    "GET /api/2.0/wye/model-versions": "all",
    "GET /api/2.0/wye/status": "admin",
}
LEVELS = (None, VIEW, QUERY, MANAGE)
#: Callers with the level that the endpoint grants to each of these principals, and those who need no grant.
GRANTED = {
    "user": (PrincipalKind.USER, "alice", "alice", []),
    "group member": (PrincipalKind.GROUP, "ds", "bob", ["other", "ds"]),
    "anybody": (PrincipalKind.GROUP, "users", "carl", []),
    "service principal": (PrincipalKind.SERVICE_PRINCIPAL, "batch", "batch", []),
}


def test_every_call_there_is_has_its_line_in_the_table(guarded: Guarded) -> None:
    """A new call does not go untested."""
    rules = guarded.client.application.url_map.iter_rules()
    assert {f"{method} {rule.rule}" for rule in rules for method in rule.methods - {"HEAD", "OPTIONS"}} == set(CALLS)


@pytest.mark.parametrize("call", CALLS)
def test_who_may_make_this_call(guarded: Guarded, call: str) -> None:
    """Owner and admins may always; others with the level it takes, whoever it was granted to; else 403 in JSON."""
    needed = CALLS[call]
    for level in LEVELS:
        for who, (kind, principal, user, groups) in GRANTED.items():
            grants = (Grant(kind, principal, level),) if level else ()
            allowed = needed == "all" or (
                isinstance(needed, Permission) and level is not None and LEVELS.index(level) >= LEVELS.index(needed)
            )
            _expect(guarded, call, grants, user, groups, allowed, f"{who} with {level}")
    other = (Grant(PrincipalKind.USER, "alice", MANAGE), Grant(PrincipalKind.GROUP, "ds", MANAGE))
    _expect(guarded, call, other, "owner", [], needed != "admin", "owner")
    _expect(guarded, call, other, "root", ["admins"], True, "admin")
    _expect(guarded, call, other, "stranger", ["dss", "d"], needed == "all", "stranger")
    guarded.endpoint()
    nobody = guarded.client.open(_path(call), method=call.split(" ", maxsplit=1)[0], json={})
    assert (nobody.status_code, nobody.get_json()["error_code"]) == (401, "UNAUTHENTICATED")


def _expect(
    guarded: Guarded, call: str, grants: tuple[Grant, ...], user: str, groups: list[str], allowed: bool, who: str
) -> None:
    before = guarded.endpoint(grants)
    answer = guarded.call(call.split(" ", maxsplit=1)[0], _path(call), user, groups, json={})
    refused = answer.status_code == 403 and answer.get_json()["error_code"] == "PERMISSION_DENIED"
    assert refused != allowed, f"{who}: {answer.status_code} {answer.get_data(as_text=True)[:200]}"
    assert allowed or guarded.api.endpoints.get("e") == before


def _path(call: str) -> str:
    path = call.split(" ")[1]
    for placeholder, value in {"<name>": "e", "<endpoint_id>": "e" * 32, "<served>": "m", "<token_id>": "t"}.items():
        path = path.replace(placeholder, value)
    return path


@pytest.mark.parametrize("call", CALLS)
def test_monitors_are_let_in_for_the_metrics(guarded: Guarded, call: str) -> None:
    """A token of that group alone makes no other call, whatever was granted; of two groups, the other counts."""
    grants = (Grant(PrincipalKind.GROUP, "users", MANAGE),)
    metrics = call in {"GET /api/2.0/wye/metrics", "GET /api/2.0/wye/health"}
    _expect(guarded, call, grants, "prometheus", ["monitors"], metrics, "monitor")
    _expect(guarded, call, grants, "both", ["monitors", "ds"], CALLS[call] != "admin", "monitor and more")


def test_monitors_are_told_of_everything(guarded: Guarded) -> None:
    """The metrics of endpoints that nobody has let them see, and those that are for admins."""
    guarded.endpoint()
    monitor = guarded.call("GET", "/api/2.0/wye/metrics", "prometheus", ["monitors"]).get_data(as_text=True)
    assert monitor == guarded.call("GET", "/api/2.0/wye/metrics").get_data(as_text=True)
    assert 'endpoint="e"' in monitor
    assert "wye_endpoints 1" in monitor
    assert 'endpoint="e"' not in guarded.call("GET", "/api/2.0/wye/metrics", "stranger").get_data(as_text=True)


def test_an_upsert_is_no_way_around(guarded: Guarded) -> None:
    """Creating an endpoint that somebody else has made is refused, also as a dry run or an update."""
    guarded.endpoint()
    body = {"name": "e", "config": config()}
    assert guarded.call("POST", EP, "stranger", [], json=body).status_code == 409
    assert guarded.call("PUT", f"{EP}/e", "stranger", [], json=body).status_code == 403
    assert guarded.call("PUT", f"{EP}/e?dry_run=true", "stranger", [], json=body).status_code == 403


def test_the_list_shows_what_the_caller_may_see(guarded: Guarded) -> None:
    """Nothing of others', all to admins, and each is shown with the caller's own level."""
    guarded.endpoint(name="a")
    guarded.endpoint((Grant(PrincipalKind.USER, "alice", QUERY),), name="b")

    def listed(*who: Any) -> list[str]:
        return [each["name"] for each in guarded.call("GET", EP, *who).get_json()["endpoints"]]

    assert listed("alice") == ["b"]
    assert listed("owner") == listed("root", ["admins"]) == ["a", "b"]
    assert listed("stranger") == []
    assert guarded.call("GET", f"{EP}/b", "alice").get_json()["permission_level"] == "CAN_QUERY"
    assert guarded.call("GET", f"{EP}/b", "owner").get_json()["permission_level"] == "CAN_MANAGE"


def test_grants_are_replaced_by_put_and_added_to_by_patch(guarded: Guarded) -> None:
    """PUT leaves the creator and the inherited line of admins; PATCH changes those it names; the shape is the API's."""
    endpoint = guarded.endpoint()
    path = f"{ACL}/{endpoint.id}"

    def lines(answer: TestResponse) -> dict[str, str]:
        body = answer.get_json()
        assert (body["object_id"], body["object_type"]) == (f"/serving-endpoints/{endpoint.id}", "serving-endpoint")
        return {
            line.get("user_name") or line.get("group_name") or line["service_principal_name"]: line["all_permissions"][
                -1
            ]
            for line in body["access_control_list"]
        }

    owner = {"permission_level": "CAN_MANAGE", "inherited": False}
    admins = {**owner, "inherited": True, "inherited_from_object": ["/serving-endpoints/"]}
    assert lines(guarded.call("GET", path)) == {"owner": owner, "admins": admins}
    acl = [
        {"user_name": "zoë", "permission_level": "CAN_VIEW"},
        {"group_name": "d s", "permission_level": "CAN_QUERY"},
        {"user_name": "owner", "permission_level": "CAN_VIEW"},
    ]
    put = lines(guarded.call("PUT", path, "owner", json={"access_control_list": acl}))
    assert put["zoë"]["permission_level"] == "CAN_VIEW"
    assert put["owner"] == owner, "the creator cannot be locked out"
    assert guarded.call("GET", f"{EP}/e", "zoë").status_code == 200
    more = [{"user_name": "zoë", "permission_level": "CAN_MANAGE"}]
    patched = lines(guarded.call("PATCH", path, json={"access_control_list": more}))
    assert {name: line["permission_level"] for name, line in patched.items()} == {
        "owner": "CAN_MANAGE",
        "admins": "CAN_MANAGE",
        "zoë": "CAN_MANAGE",
        "d s": "CAN_QUERY",
    }
    assert lines(guarded.call("PUT", path, json={})) == {"owner": owner, "admins": admins}
    levels = guarded.call("GET", f"{path}/permissionLevels").get_json()["permission_levels"]
    assert [level["permission_level"] for level in levels] == ["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]


@pytest.mark.parametrize(
    "line",
    [
        {"permission_level": "CAN_VIEW"},
        {"user_name": "a", "group_name": "b", "permission_level": "CAN_VIEW"},
        {"user_name": "a"},
        {"user_name": "a", "permission_level": "CAN_FLY"},
        {"user_name": "a\nb", "permission_level": "CAN_VIEW"},
        {"user_name": " ", "permission_level": "CAN_VIEW"},
    ],
)
def test_a_wrong_grant_is_refused_whole(guarded: Guarded, line: dict[str, str]) -> None:
    """One wrong line and nothing is changed."""
    before = guarded.endpoint()
    good = {"user_name": "alice", "permission_level": "CAN_VIEW"}
    answer = guarded.call("PUT", f"{ACL}/{before.id}", json={"access_control_list": [good, line]})
    assert (answer.status_code, answer.get_json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert guarded.api.endpoints.get("e") == before


def test_what_envoys_have_not_acknowledged_is_not_called_done(guarded: Guarded) -> None:
    """Revocation, permissions and limits answer 503 with who is waited for, and are stored all the same."""
    late = replace(
        guarded.api.deps,
        auth=replace(_auth(guarded), announce=lambda: "envoy-1: has not acknowledged extension revoked-tokens"),
        undelivered=lambda _endpoint: "envoy-1: has not acknowledged routes endpoint/e",
    )
    slow = Guarded(guarded.api, create_app(late).test_client(), [])
    token = slow.call("POST", "/api/2.0/token/create", json={}).get_json()["token_info"]["token_id"]
    endpoint = guarded.endpoint()
    acl = {"access_control_list": [{"user_name": "alice", "permission_level": "CAN_QUERY"}]}
    limits = [{"calls": 5, "renewal_period": "minute", "key": "user"}]
    for answer in (
        slow.call("POST", "/api/2.0/token/delete", json={"token_id": token}),
        slow.call("PUT", f"{ACL}/{endpoint.id}", json=acl),
        slow.call("PUT", f"{EP}/e/rate-limits", json={"rate_limits": limits}),
        slow.call("PUT", f"{EP}/e/ai-gateway", json={"rate_limits": limits}),
        slow.call("PUT", f"{EP}/e", json={"rate_limits": []}),
    ):
        assert (answer.status_code, answer.get_json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert "envoy-1" in answer.get_json()["message"]
        assert answer.headers["Retry-After"] == "1"
    assert slow.call("GET", f"{EP}/e", "alice").status_code == 200
    assert token in Tokens(guarded.api.store).revoked(0)


def _auth(guarded: Guarded) -> Auth:
    signer = keys.Signer(Ed25519PrivateKey.generate())
    tokens = Tokens(guarded.api.store)
    (admin,) = tokens.all()
    return Auth(signer, tokens, admin, lambda: "")
