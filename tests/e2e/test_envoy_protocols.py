"""OpenAI's and the Open Inference Protocol's paths on a real Envoy alone: all of the endpoint's rules hold on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane import keys
from controlplane.domain import Audience, LimitKey, RateLimit
from controlplane.schema.rules import RESERVED_NAMES
from controlplane.translate import openai
from tests.e2e.envoy_alone import EnvoyAlone, echo, request
from tests.e2e.test_envoy_access import Issuer

CHAT = "/serving-endpoints/chat/completions"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def token(short_dir: Path) -> Issuer:
    """Makes tokens that this Envoy accepts."""
    return Issuer(keys.load_or_make(short_dir / "openai" / "keys"))


@pytest.fixture(scope="module")
def envoy(short_dir: Path, token: Issuer) -> Iterator[EnvoyAlone]:
    """Envoy with tokens, and endpoints for alice: one that echoes, and one of two calls a minute."""
    alone = EnvoyAlone(short_dir / "openai", jwks=token.keys.jwks, max_body=3_000_000)
    alice = Audience(("alice",), ("admins",))
    backend = alone.backend(short_dir / "openai.sock", echo)
    alone.endpoint("chatty", backend, may_query=alice)
    alone.endpoint("limited", backend, may_query=alice, limits=(RateLimit(2, LimitKey.USER),))
    yield alone
    alone.close()


@pytest.mark.parametrize("path", openai.PATHS)
def test_the_endpoint_in_the_body_answers(envoy: EnvoyAlone, token: Issuer, path: str) -> None:
    """On each path; what the model gets is what it gets by the endpoint's own path."""
    body = {"messages": [{"role": "user", "content": '{"model": "other"}'}], "n": {"model": "other"}, "model": "chatty"}
    alice = token("alice")
    seen = envoy.post(f"/serving-endpoints/{path}", alice, json=body).json()
    plain = envoy.post("/serving-endpoints/chatty/invocations", alice, json=body).json()
    assert {**seen, "x-request-id": ""} == {**plain, "x-request-id": ""}


@pytest.mark.parametrize(
    "text", ['{"model":"chatty"}', ' {"a":"\\"","b":[{}], "model" : "chatty"', '{"model":"chatty",']
)
def test_what_else_is_wrong_with_the_body_is_for_the_model_to_tell(envoy: EnvoyAlone, token: Issuer, text: str) -> None:
    """Envoy looks for the model and at nothing else: replicas tell line and column of what is not JSON."""
    assert envoy.post(CHAT, token("alice"), json=None, content=text).status_code == 200


def test_a_body_in_pieces_and_one_larger_than_a_connections_buffer(envoy: EnvoyAlone, token: Issuer) -> None:
    """Both are waited for; over the limit it is 413."""
    pieces = iter([b'{"mod', b'el": "cha', b'tty"}'])
    assert envoy.post(CHAT, token("alice"), json=None, content=pieces, headers=JSON).status_code == 200
    for size, status in ((2_900_000, 200), (3_100_000, 413)):
        answer = envoy.post(CHAT, token("alice"), json={"input": "x" * size, "model": "chatty"})
        assert answer.status_code == status
    assert answer.json()["error_code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'[{"model":"chatty"}]', b'"model"', b"{}", b'{"model":5}', b'{"model":null}', b'{"x":"model"}',
     b'{"model":["chatty"]}', b'{"x":{"model":"chatty"}}', b'{"model":"chatty', b'"\\', b'{"model"', b'{"model":', b"\xff"],
)  # fmt: skip
def test_without_a_model_it_is_400(envoy: EnvoyAlone, token: Issuer, body: bytes) -> None:
    """Whatever the body is instead."""
    answer = envoy.post(CHAT, token("alice"), json=None, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")
    assert "'model' is the name of a serving endpoint" in answer.json()["message"]


@pytest.mark.parametrize(
    "model",
    ["ghost", "", "chat", "chatty/served-models/m", "chatty/invocations?", "../../api/2.0", "a b", "zoë", "\n", "x" * 5000, "%2e%2e", "chatty#", "chatt", "chattyy", "Chatty"],
)  # fmt: skip
def test_a_model_that_is_no_endpoint_is_404(envoy: EnvoyAlone, token: Issuer, model: str) -> None:
    """None leads anywhere else than to an endpoint's invocations."""
    answer = envoy.post(CHAT, token("alice"), json={"model": model})
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_tokens_permissions_and_limits_are_the_endpoints(envoy: EnvoyAlone, token: Issuer) -> None:
    """401 before the body is looked at, 403 for who may not, 429 for who has had enough by either path."""

    def asked(text: str, model: str, path: str = CHAT) -> tuple[int, str]:
        answer = envoy.post(path, text, json={"model": model})
        return answer.status_code, answer.json().get("error_code", "")

    assert asked("", "chatty") == asked("wrong", "ghost") == (401, "UNAUTHENTICATED")
    assert asked(token("bob"), "chatty") == (403, "PERMISSION_DENIED")
    assert asked(token("bob", "admins"), "chatty") == (200, "")
    assert asked(token("alice"), "limited") == (200, "")
    assert asked(token("alice"), "", "/serving-endpoints/limited/invocations") == (200, "")
    assert asked(token("alice"), "limited") == (429, "REQUEST_LIMIT_EXCEEDED")


def test_no_endpoint_can_have_a_name_that_these_paths_need(envoy: EnvoyAlone, token: Issuer) -> None:
    """And nothing else is found under them."""
    assert set(openai.first_segments()) <= set(RESERVED_NAMES)
    for method, path in (("GET", CHAT), ("POST", "/serving-endpoints/chat/invocations"), ("POST", f"{CHAT}/x")):
        headers = {"authorization": f"Bearer {token('alice')}"}
        answer = envoy.client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_open_inference_is_the_endpoints_own_path(envoy: EnvoyAlone, token: Issuer) -> None:
    """The replica gets what it gets by that path, and a media type that tells what the body is, whatever the client says."""
    alice = token("alice")
    for path, place in (("infer", "invocations"), ("versions/m/infer", "served-models/m/invocations")):
        plain = envoy.post(f"/serving-endpoints/chatty/{place}", alice).json()
        for sent, media in (({}, ""), ({"inference-header-content-length": "2", "content-type": "x/y"}, "; json=2")):
            seen = envoy.post(f"/v2/models/chatty/{path}", alice, headers=sent).json()
            assert seen["content-type"] == f"application/vnd.open-inference+json; model=chatty{media}"
            same = {"x-request-id": "", "content-type": "", "inference-header-content-length": ""}
            assert {**seen, **same} == {**plain, **same}


def test_open_inference_by_the_endpoints_rules(envoy: EnvoyAlone, token: Issuer) -> None:
    """401, 403 and 404 as on the endpoint's own path; nothing else is found under these paths."""

    def asked(text: str, path: str) -> tuple[int, str]:
        answer = envoy.post(f"/v2/{path}", text)
        return answer.status_code, answer.json()["error_code"]

    alice, nothing = token("alice"), (404, "RESOURCE_DOES_NOT_EXIST")
    assert asked("", "models/chatty/infer") == asked("", "health/live") == (401, "UNAUTHENTICATED")
    assert asked(token("bob"), "models/chatty/infer") == (403, "PERMISSION_DENIED")
    for path in ("ghost/infer", "chatty/versions/ghost/infer", "chatty", "chatty/", "chatty/infer/x", "a.b/infer",
                 "chatty/versions/a/b/infer", "/infer", "chat/infer"):  # fmt: skip
        assert asked(alice, f"models/{path}") == nothing, path
    headers = {"authorization": f"Bearer {alice}"}
    assert envoy.client.get("/v2/models/chatty/infer", headers=headers).status_code == 404
    for word in ("live", "ready"):
        assert envoy.client.get(f"/v2/health/{word}", headers=headers).json() == {word: True}


def test_an_answer_in_events_is_passed_on_event_by_event(envoy: EnvoyAlone, token: Issuer, short_dir: Path) -> None:
    """The next is only sent when the one before it has arrived."""
    wanted = asyncio.Semaphore(1)

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for number in range(3):
            await wanted.acquire()
            writer.write(b"data: %d\n\n" % number)

    async def next_one() -> None:
        wanted.release()

    envoy.endpoint("slow", envoy.backend(short_dir / "slow.sock", events), may_query=Audience(("alice",)))
    headers = {"authorization": f"Bearer {token('alice')}"}
    arrived = []
    with envoy.client.stream("POST", CHAT, json={"model": "slow"}, headers=headers) as answer:
        for line in filter(None, answer.iter_lines()):
            arrived.append(line)
            envoy.run(next_one())
    assert arrived == ["data: 0", "data: 1", "data: 2"]
