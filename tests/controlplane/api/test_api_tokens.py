"""Tokens over the API: made, listed, revoked."""

from __future__ import annotations

from pathlib import Path

import jwt

from tests.controlplane.api.harness import Guarded


def test_a_token_is_shown_once(guarded: Guarded, tmp_path: Path) -> None:
    """Neither it nor its signature is in the database, and it says who and until when."""
    body = {"user_name": "alice", "groups": ["ds"], "lifetime_seconds": 60, "comment": "notebook"}
    made = guarded.call("POST", "/api/2.0/token/create", json=body).get_json()
    claims = jwt.decode(made["token_value"], options={"verify_signature": False, "verify_exp": False})
    assert (claims["sub"], claims["member_of"], claims["exp"] - claims["iat"]) == ("alice", ",ds,", 60)
    info = made["token_info"]
    assert info["token_id"] == claims["tid"]
    assert info["expiry_time"] - info["creation_time"] == 60_000
    listed = guarded.call("GET", "/api/2.0/token/list", "alice").get_json()["token_infos"]
    assert [(each["token_id"], each["comment"]) for each in listed] == [(info["token_id"], "notebook")]
    guarded.api.store.close()
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("wye.db*"))
    assert info["token_id"].encode() in stored
    for secret in (made["token_value"], made["token_value"].rsplit(".", 1)[1]):
        assert secret.encode() not in stored


def test_users_make_and_revoke_their_own_tokens_only(guarded: Guarded) -> None:
    """Neither for others nor for groups they are not in; of others' tokens they do not even learn."""
    create, delete = "/api/2.0/token/create", "/api/2.0/token/delete"
    mine = guarded.call("POST", create, "alice", ["ds"], json={}).get_json()["token_info"]
    assert (mine["user_name"], mine["groups"]) == ("alice", ["ds"])
    for body in ({"user_name": "bob"}, {"groups": ["admins"]}, {"groups": ["ds", "ops"]}):
        assert guarded.call("POST", create, "alice", ["ds"], json=body).status_code == 403, body
    assert guarded.call("POST", delete, "bob", json={"token_id": mine["token_id"]}).status_code == 404
    assert guarded.announced == []
    assert guarded.call("POST", delete, "alice", json={"token_id": mine["token_id"]}).get_json() == {}
    assert guarded.announced == [mine["token_id"]]
    assert guarded.call("GET", "/api/2.0/token/list", "alice").get_json()["token_infos"] == []


def test_the_token_that_wye_itself_uses_cannot_be_revoked_under_its_feet(guarded: Guarded) -> None:
    """The refusal says how to replace it."""
    (info,) = guarded.call("GET", "/api/2.0/token-management/tokens").get_json()["token_infos"]
    answer = guarded.call("DELETE", f"/api/2.0/token-management/tokens/{info['token_id']}")
    assert answer.status_code == 400
    assert "keys/admin-token" in answer.get_json()["message"]
