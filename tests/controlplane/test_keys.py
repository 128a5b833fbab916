"""The signing key and the admin's token: made once, private, and verifiable with the published key set."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt

from controlplane import keys


def test_keys_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    """A second start has the same token; neither file is readable by others."""
    first, second = keys.load_or_make(tmp_path / "keys"), keys.load_or_make(tmp_path / "keys")
    assert first == second
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "keys").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_the_admin_token_verifies_with_the_key_set_that_envoy_gets(tmp_path: Path) -> None:
    """Issuer, user and group are in it; another installation's key does not verify it."""
    made, other = keys.load_or_make(tmp_path / "one"), keys.load_or_make(tmp_path / "two")

    def claims(jwks: str) -> dict[str, object]:
        (key,) = json.loads(jwks)["keys"]
        return jwt.decode(made.admin_token, jwt.PyJWK(key), algorithms=["EdDSA"], issuer="wye")

    assert claims(made.jwks)["sub"] == "admin"
    assert claims(made.jwks)["member_of"] == ",admins,"
    try:
        claims(other.jwks)
    except jwt.InvalidSignatureError:
        return
    raise AssertionError("a stranger's key verified the token")


def test_a_token_that_says_its_groups_as_tokens_once_did_is_replaced(tmp_path: Path) -> None:
    """The admin of a Wye that is brought up to date is an admin still."""
    made = keys.load_or_make(tmp_path / "keys")
    claims = jwt.decode(made.admin_token, options={"verify_signature": False})
    former = jwt.encode({**{key: claims[key] for key in ("iss", "sub", "tid", "iat")}, "groups": ["admins"]}, "k" * 32)
    (tmp_path / "keys" / "admin-token").write_text(former)
    again = keys.load_or_make(tmp_path / "keys")
    assert (again.admin.user, again.admin.groups) == ("admin", ("admins",))
    assert again.admin_token not in {former, made.admin_token}
    assert keys.load_or_make(tmp_path / "keys") == again


def test_who_comes_second_takes_the_keys_of_the_first(tmp_path: Path) -> None:
    """Control planes that start at the same time on one directory have the same keys, and leave nothing else there."""
    with ThreadPoolExecutor(8) as starting:
        tokens = starting.map(lambda _: keys.load_or_make(tmp_path / "keys").admin_token, range(8))
        found = set(starting.map(lambda _: keys.fingerprint(tmp_path / "keys"), range(8)))
    assert len(set(tokens)) == 1
    assert found == {keys.fingerprint(tmp_path / "keys")}
    assert len(list((tmp_path / "keys").iterdir())) == 3
    assert found != {keys.fingerprint(tmp_path / "others")}
