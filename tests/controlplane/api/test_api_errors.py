"""Every error is JSON with a code, words and the request's id, whatever made it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import pytest
from werkzeug.test import TestResponse

from controlplane.api import create_app
from tests.controlplane.api.harness import PATH, Api, config


def code_of(answer: TestResponse) -> tuple[int, str]:
    """Status and error code of an answer that has the shape of an error."""
    body = answer.get_json()
    assert answer.mimetype == "application/json"
    assert set(body) == {"error_code", "message", "details"}
    assert body["message"]
    assert body["details"][0] == {
        "@type": "type.googleapis.com/google.rpc.RequestInfo",
        "request_id": answer.headers["x-request-id"],
        "serving_data": "",
    }
    return answer.status_code, body["error_code"]


def test_malformed_json_names_line_and_column(api: Api) -> None:
    """A missing comma is a BAD_REQUEST that says where."""
    answer = api.client.post(PATH, data=b'{\n  "name": "e"\n  "config": {}\n}', content_type="application/json")
    assert code_of(answer) == (400, "BAD_REQUEST")
    assert answer.get_json()["message"] == "The body is not valid JSON: line 3 column 3: expecting ',' delimiter."


def test_validation_lists_every_problem(api: Api) -> None:
    """The message and the details have each problem with its path."""
    answer = api.client.post(PATH, json={"name": "a b", "config": config(101)})
    assert code_of(answer) == (400, "INVALID_PARAMETER_VALUE")
    fields = [violation["field"] for violation in answer.get_json()["details"][1]["field_violations"]]
    assert fields == [
        "name",
        "config.traffic_config.routes[0].traffic_percentage",
        "config.traffic_config.routes[1].traffic_percentage",
    ]
    assert all(field in answer.get_json()["message"] for field in fields)


def test_what_is_not_built_says_so(api: Api) -> None:
    """External models are NOT_IMPLEMENTED with a sentence."""
    answer = api.client.post(
        PATH, json={"name": "e", "config": {"served_entities": [{"external_model": {"name": "x"}}]}}
    )
    assert code_of(answer) == (501, "NOT_IMPLEMENTED")


@pytest.mark.parametrize("path", ["/", "/api/2.0/nothing", f"{PATH}/e/nothing", "/api/2.0//serving-endpoints"])
def test_unknown_paths(api: Api, path: str) -> None:
    """A path that does not exist is 404 in the same shape, and never a redirect."""
    assert code_of(api.client.get(path)) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", PATH, "GET, HEAD, POST"),
        ("OPTIONS", PATH, "GET, HEAD, POST"),
        ("POST", f"{PATH}/e", "DELETE, GET, HEAD, PUT"),
        ("POST", f"{PATH}/e/config", "PUT"),
        ("DELETE", "/api/2.0/wye/health", "GET, HEAD"),
    ],
)
def test_wrong_methods(api: Api, method: str, path: str, allowed: str) -> None:
    """A method that a path does not have is 405, with those that it has."""
    answer = api.client.open(path, method=method)
    assert code_of(answer) == (405, "BAD_REQUEST")
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    ("content_type", "headers", "status"),
    [
        ("application/json", {}, 200),
        ("application/json; charset=utf-8", {}, 200),
        ("application/merge-patch+json", {}, 200),
        (None, {}, 200),
        ("application/x-www-form-urlencoded", {}, 200),
        ("application/x-www-form-urlencoded", {"Origin": "https://elsewhere.example"}, 415),
        ("text/plain", {}, 415),
        ("text/csv", {}, 415),
        ("multipart/form-data; boundary=x", {}, 415),
    ],
)
def test_content_types(api: Api, content_type: str | None, headers: Mapping[str, str], status: int) -> None:
    """JSON is taken by any of its names and as `curl -d` sends it, but not from forms of other pages."""
    answer = api.client.post(PATH, data=b'{"name": "e"}', content_type=content_type, headers=headers)
    assert answer.status_code == status
    if status != 200:
        assert code_of(answer) == (415, "BAD_REQUEST")
        assert "application/json" in answer.get_json()["message"]


def test_large_bodies(api: Api) -> None:
    """A body over the limit is 413 before it is parsed."""
    answer = api.client.post(PATH, data=b" " * (4 * 1024 * 1024 + 1), content_type="application/json")
    assert code_of(answer) == (413, "BAD_REQUEST")


def test_a_bug_is_an_internal_error_that_the_log_explains(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The answer has the id under which the log has the exception, and nothing of its insides."""

    def broken() -> Mapping[str, object]:
        raise RuntimeError("secret inside")

    client = create_app(replace(api.deps, status=broken)).test_client()
    with caplog.at_level(logging.ERROR):
        answer = client.get("/api/2.0/wye/status", headers={"x-request-id": "r-1"})
    assert code_of(answer) == (500, "INTERNAL_ERROR")
    assert "r-1" in answer.get_json()["message"]
    assert "secret" not in answer.text
    assert "Unexpected error" not in answer.text
    assert "request r-1: GET /api/2.0/wye/status" in caplog.text
    assert "secret inside" in caplog.text


def test_the_request_id_is_envoys_or_new(api: Api) -> None:
    """Every answer carries the id that the request came with, or one of its own."""
    given_one = api.client.get(PATH, headers={"x-request-id": "r-1"})
    assert given_one.headers["x-request-id"] == "r-1"
    first, second = (api.client.get(PATH).headers["x-request-id"] for _ in range(2))
    assert first != second


def test_health_and_status(api: Api) -> None:
    """The control plane says that it is there, and what it knows of itself."""
    assert api.client.get("/api/2.0/wye/health").get_json() == {"status": "ok"}
    assert api.client.get("/api/2.0/wye/status").get_json() == {"envoys": []}
