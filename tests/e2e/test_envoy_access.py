"""Tokens, permissions and rate limits as a real Envoy keeps them, with no control plane to ask."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from controlplane import keys
from controlplane.domain import Audience, LimitKey, RateLimit
from controlplane.translate import names
from controlplane.translate.authentication import revoked_tokens
from tests.e2e.envoy_alone import EnvoyAlone, echo
from tests.e2e.wye import until

PREDICT = "/serving-endpoints/{}/invocations"
#: What a model is never told.
_SECRET = {"authorization", "cookie", "x-wye-groups", "x-wye-token"}
DIRECT = "/serving-endpoints/{}/served-models/m/invocations"


class Issuer:
    """Makes tokens that this Envoy accepts."""

    def __init__(self, made: keys.Keys) -> None:
        self.keys = made

    def __call__(self, user: str, *groups: str, seconds: float | None = None) -> str:
        now = int(time.time() * 1000)
        until_ms = None if seconds is None else now + round(seconds * 1000)
        text, _ = self.keys.signer.sign(user, groups, comment="", creator="", now_ms=now, expires_ms=until_ms)
        return text


@pytest.fixture(scope="module")
def token(short_dir: Path) -> Issuer:
    """Makes tokens that this Envoy accepts."""
    return Issuer(keys.load_or_make(short_dir / "access" / "keys"))


@pytest.fixture(scope="module")
def envoy(short_dir: Path, token: Issuer) -> Iterator[EnvoyAlone]:
    """Envoy with tokens, and endpoints that differ in who may query them."""
    alone = EnvoyAlone(short_dir / "access", jwks=token.keys.jwks)
    backend = alone.backend(short_dir / "access.sock", echo)
    alone.backend(short_dir / "access" / "api.sock", echo)
    alone.endpoint("shared", backend, may_query=Audience(("alice", "zoë"), ("admins", "d s")))
    alone.endpoint("others", backend, may_query=Audience(("owner",), ("admins",)))
    alone.endpoint("open", backend, may_query=Audience(("owner",), ("admins", "users")))
    yield alone
    alone.close()


@pytest.mark.parametrize("path", [PREDICT, DIRECT])
@pytest.mark.parametrize("basic", [False, True])
def test_who_may_query(envoy: EnvoyAlone, token: Issuer, path: str, basic: bool) -> None:
    """By user or by group, through the split or directly, with Bearer or with Basic: 200 or 403, and 401 for no token."""
    cases = {
        token("alice"): (200, 403, 200),
        token("zoë"): (200, 403, 200),
        token("bob", "x", "d s"): (200, 403, 200),
        token("owner"): (403, 200, 200),
        token("root", "admins"): (200, 200, 200),
        token("stranger", "d", "s", "admin", "d%20s", ",admins,", "x,admins"): (403, 403, 200),
        token("alice "): (403, 403, 200),
        token("admins"): (403, 403, 200),
        token("gone", "admins", seconds=-3): (401, 401, 401),
        tampered(token("stranger")): (401, 401, 401),
        unsigned("alice"): (401, 401, 401),
        "nonsense": (401, 401, 401),
    }
    for text, expected in cases.items():
        credentials = base64.b64encode(f"token:{text}".encode()).decode()
        headers = {"authorization": f"Basic {credentials}" if basic else f"Bearer {text}"}
        answers = [envoy.post(path.format(name), headers=headers) for name in ("shared", "others", "open")]
        assert tuple(answer.status_code for answer in answers) == expected, text
        for answer in answers:
            code = {200: None, 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}[answer.status_code]
            assert answer.json().get("error_code") == code
            assert answer.status_code != 200 or not _SECRET & answer.json().keys()
    assert envoy.post(path.format("open")).status_code == 401


@pytest.mark.parametrize(
    "credentials",
    ["Basic", "Basic !!!", "Basic dG9rZW4=", "Basic YTpi", "basic dG9rZW46", "Digest x", "Bearer"],
)
def test_credentials_that_hold_no_token_are_401(envoy: EnvoyAlone, credentials: str) -> None:
    """Whatever they are instead."""
    answer = envoy.post(PREDICT.format("open"), headers={"authorization": credentials})
    assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")


def test_a_refusal_names_the_user_and_what_is_missing(envoy: EnvoyAlone, token: Issuer) -> None:
    """So that they know whom they were taken for."""
    message = envoy.post(PREDICT.format("others"), token("alice")).json()["message"]
    assert "alice" in message
    assert "CAN_QUERY" in message


def test_what_is_not_there_is_404_for_whoever_has_a_token(envoy: EnvoyAlone, token: Issuer) -> None:
    """An unknown served model of an endpoint that one may query is not called forbidden."""
    for path in (PREDICT.format("unknown"), "/serving-endpoints/shared/served-models/x/invocations", "/nothing"):
        answer = envoy.post(path, token("alice"))
        assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_the_control_plane_is_told_who_calls_and_cannot_be_lied_to(envoy: EnvoyAlone, token: Issuer) -> None:
    """User and groups are the token's, whatever headers the client sends under these names."""
    forged = {"x-wye-user": "root", "x-wye-groups": ",admins,", "x-wye-token": "other"}
    seen = envoy.post("/api/2.0/x", token("zoë", "d s", "ü,"), headers=forged).json()
    assert (seen["x-wye-user"], seen["x-wye-groups"]) == ("zoë", ",d%20s,%C3%BC%2C,")
    assert seen["x-wye-token"] != "other"
    assert not {"x-wye-groups"} & envoy.post("/api/2.0/x", token("alice"), headers=forged).json().keys()
    for path in ("/ui/sign-in/", "/ui/static/x"):  # nobody has to say who they are, and nobody can
        assert not any(name.startswith("x-wye-") for name in envoy.post(path, headers=forged).json())
    assert envoy.post(PREDICT.format("others"), token("alice"), headers=forged).status_code == 403
    assert envoy.post("/v2/models/others/infer", token("alice"), headers=forged).status_code == 403


def test_revoked_tokens_are_refused_on_both_planes_and_no_others(envoy: EnvoyAlone, token: Issuer) -> None:
    """Once the list is acknowledged, the next request fails; the listener is not touched, connections stay open."""
    mine, other = token("alice"), token("alice")
    token_id = jwt.decode(mine, options={"verify_signature": False})["tid"]
    assert envoy.post(PREDICT.format("shared"), mine).status_code == 200
    envoy.publish([revoked_tokens([token_id, *(f"{number:032x}" for number in range(1000))])])
    for path in (PREDICT.format("shared"), "/api/2.0/x"):
        answer = envoy.post(path, mine)
        assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")
        assert "revoked" in answer.json()["message"]
        assert envoy.post(path, other, headers={"x-wye-token": token_id}).status_code == 200
    envoy.publish([revoked_tokens(())])
    assert envoy.post(PREDICT.format("shared"), mine).status_code == 200


def test_of_two_tokens_the_header_counts(envoy: EnvoyAlone, token: Issuer) -> None:
    """A cookie beside it is not looked at: neither does a revoked one hide behind a good one, nor do their rights add up."""
    cookie = names.session_cookie(token.keys.jwks)
    admin, nobody = token("root", "admins", "d s"), token("nobody", "staff")
    page = {names.PAGE_HEADER: "1", "cookie": f"{cookie}={admin}"}
    predict = PREDICT.format("others")
    assert envoy.post(predict, headers=page).status_code == 200
    assert envoy.post(predict, nobody, headers=page).status_code == 403
    seen = envoy.post("/ui/endpoints/", nobody, headers=page).json()
    assert (seen["x-wye-user"], seen["x-wye-groups"]) == ("nobody", ",staff,")
    assert not {"cookie", "authorization"} & seen.keys()
    nobodys = jwt.decode(nobody, options={"verify_signature": False})["tid"]
    try:
        envoy.publish([revoked_tokens([nobodys])])
        for path, refused in ((predict, 401), ("/ui/endpoints/", 303)):  # to where one signs in
            assert envoy.post(path, nobody, headers=page).status_code == refused
            assert envoy.post(path, headers=page).status_code == 200
    finally:
        envoy.publish([revoked_tokens(())])


def test_a_token_expires(envoy: EnvoyAlone, token: Issuer) -> None:
    """Also one that was accepted before, and is remembered for that."""

    def accepted() -> str:
        """A token that was good a moment ago; one that this machine was too slow for is no such."""
        short = token("alice", seconds=1)
        return short if envoy.post(PREDICT.format("shared"), short).status_code == 200 else ""

    short = until(accepted)
    until(lambda: envoy.post(PREDICT.format("shared"), short).status_code == 401, 30, "the token has expired")


def test_rate_limits_count_by_endpoint_user_and_group(envoy: EnvoyAlone, token: Issuer, short_dir: Path) -> None:
    """Each user for themselves, one with a limit of their own by that, groups together, and the endpoint above all."""
    backend = envoy.backend(short_dir / "limits.sock", echo)
    everybody = Audience((), ("users",))

    def passed(name: str, text: str, requests: int) -> int:
        answers = [envoy.post(PREDICT.format(name), text) for _ in range(requests)]
        for answer in answers:
            if answer.status_code != 200:
                assert (answer.status_code, answer.json()["error_code"]) == (429, "REQUEST_LIMIT_EXCEEDED")
                assert 0 < int(answer.headers["retry-after"]) <= 60
        return sum(answer.status_code == 200 for answer in answers)

    def endpoint(name: str, *limits: RateLimit) -> None:
        envoy.endpoint(name, backend, may_query=everybody, limits=limits)

    user, group = LimitKey.USER, LimitKey.USER_GROUP
    endpoint("per-user", RateLimit(2, user), RateLimit(4, user, "carl"), RateLimit(1, user, "dora"))
    assert [passed("per-user", token(who), 6) for who in ("alice", "bob", "carl", "dora")] == [2, 2, 4, 1]
    endpoint("per-group", RateLimit(3, group, "d \"s'"), RateLimit(9, user, "carl"))
    shared = [passed("per-group", token(who, "d \"s'"), 2) for who in ("alice", "bob")]
    assert shared == [2, 1]
    assert passed("per-group", token("carl", "d \"s'"), 5) == 5, "a limit of one's own comes before the group's"
    assert passed("per-group", token("eve"), 5) == 5
    endpoint("everybody", RateLimit(3, group, "users"), RateLimit(9, user, "carl"))
    assert [passed("everybody", token(who, *of), 2) for who, *of in (("alice",), ("bob", "d s"))] == [2, 1]
    assert passed("everybody", token("carl"), 5) == 5
    endpoint("in-all", RateLimit(5, LimitKey.ENDPOINT), RateLimit(3, LimitKey.ENDPOINT), RateLimit(2, user))
    assert [passed("in-all", token(who), 3) for who in ("alice", "bob")] == [2, 1]
    endpoint("unlimited")
    assert passed("unlimited", token("alice"), 20) == 20


def tampered(text: str) -> str:
    """The token with another user in it."""
    head, _, signature = text.split(".")
    claims = jwt.decode(text, options={"verify_signature": False}) | {"sub": "alice", "member_of": ",admins,"}
    return ".".join([head, jwt.encode(claims, "k" * 32).split(".")[1], signature])


def unsigned(user: str) -> str:
    """A token that says it needs no signature."""
    return jwt.encode({"iss": "wye", "sub": user, "member_of": ",admins,"}, "", algorithm="none")
