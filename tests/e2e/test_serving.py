"""The product's three calls on the one public port, with real models behind a real Envoy."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator

import pytest

from tests.e2e.load import Load, Tally
from tests.e2e.wye import EXAMPLE, Wye, config, until

BODY = json.dumps(EXAMPLE).encode()


def send(wye: Wye, path: str, count: int) -> Tally:
    """That many requests to a path."""
    return asyncio.run(Load(wye.url, path, wye.token, BODY).requests(count))


def deviation(share: float, count: int) -> float:
    """Standard deviation of the observed share of `count` independent choices."""
    return math.sqrt(share * (1 - share) / count)


@pytest.fixture(scope="module")
def endpoint(wye: Wye) -> Iterator[str]:
    """An endpoint of three entities: one, two, three times as much."""
    wye.create("splits", config({"a": 90, "b": 10, "c": 0}, a="linear/1", b="linear/2", c="linear/3"))
    yield "splits"
    assert wye.client.delete("/api/2.0/serving-endpoints/splits").json() == {}


@pytest.mark.parametrize("shares", [(90, 10, 0), (50, 50, 0), (100, 0, 0), (60, 30, 10)], ids=str)
def test_the_observed_split_is_the_one_asked_for(wye: Wye, endpoint: str, shares: tuple[int, int, int]) -> None:
    """After a PUT, each model's share of 10,000 requests is within four standard deviations, and 0 % gets none."""
    before = wye.replicas(endpoint)
    split = dict(zip("abc", shares, strict=True))
    wye.update(endpoint, config(split, a="linear/1", b="linear/2", c="linear/3"))
    tally = send(wye, f"/serving-endpoints/{endpoint}/invocations", 10_000)
    assert tally.failures == []
    for model, percent in split.items():
        expected = percent / 100
        assert abs(tally.share(model) - expected) <= 4 * deviation(expected, 10_000), tally.models
    assert wye.replicas(endpoint) == before, "a change of weights restarted a worker"


@pytest.mark.parametrize(("served", "prediction"), [("a", 21.0), ("b", 42.0), ("c", 63.0)])
def test_direct_calls_ignore_the_split(wye: Wye, endpoint: str, served: str, prediction: float) -> None:
    """Every request to a served model's own path is answered by that model, one with 0 % of the split included."""
    answer = wye.predict(endpoint, served)
    assert (answer.status_code, answer.headers["served-model-name"]) == (200, served)
    assert answer.json() == {"predictions": [pytest.approx(prediction)]}
    tally = send(wye, f"/serving-endpoints/{endpoint}/served-models/{served}/invocations", 300)
    assert (tally.failures, tally.models) == ([], {served: 300})


@pytest.mark.parametrize(
    ("model", "body", "predictions"),
    [
        ("doubler", {"dataframe_split": {"columns": ["x", "y"], "data": [[3, 0], [4, 0]]}}, [6.0, 8.0]),
        ("doubler", {"dataframe_records": [{"x": 3.0, "y": 0.0}], "params": {"factor": 5.0}}, [15.0]),
        ("from-code", {"dataframe_records": [{"x": 1}, {"x": 2}]}, ["row 0", "row 1"]),
        ("xgboost", EXAMPLE, None),
        ("lightgbm", EXAMPLE, None),
    ],
)
def test_any_python_model_of_the_registry_is_served(wye: Wye, model: str, body: object, predictions: object) -> None:
    """Classes with params, models from code and boosted trees are served like any other."""
    name = f"flavour-{model}"
    if wye.client.get(f"/api/2.0/serving-endpoints/{name}").status_code == 404:
        created = wye.create(name, {"served_entities": [{"entity_name": model, "entity_version": "1"}]})
        assert created["state"] == {"ready": "READY", "config_update": "NOT_UPDATING", "suspend": "NOT_SUSPENDED"}, (
            created
        )
    answer = wye.predict(name, body=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["served-model-name"] == f"{model}-1"
    if predictions is None:
        assert isinstance(answer.json()["predictions"][0], float)
    else:
        assert answer.json()["predictions"] == predictions


def test_errors_are_told_in_json_with_a_request_id(wye: Wye, endpoint: str) -> None:
    """Whatever refuses a request, Envoy, the control plane or the model, the answer has a code, a message and an id."""
    post, base = wye.client.post, "/serving-endpoints"
    refused = [
        (post(f"{base}/nobody/invocations", json=EXAMPLE), 404, "RESOURCE_DOES_NOT_EXIST"),
        (post(f"{base}/{endpoint}/served-models/ghost/invocations", json=EXAMPLE), 404, "RESOURCE_DOES_NOT_EXIST"),
        (wye.client.get(f"{base}/{endpoint}/invocations"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (wye.client.get("/nothing"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (wye.client.get("/nothing/here?a=b"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (wye.client.get("/api/2.0/serving-endpoints/nobody"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (
            post(f"{base}/{endpoint}/invocations", content=b"{", headers={"content-type": "application/json"}),
            400,
            "BAD_REQUEST",
        ),
        (
            post(f"{base}/{endpoint}/invocations", json=EXAMPLE, headers={"authorization": "Bearer x"}),
            401,
            "UNAUTHENTICATED",
        ),
        (post(f"{base}/{endpoint}/invocations", json=EXAMPLE, headers={"authorization": ""}), 401, "UNAUTHENTICATED"),
    ]
    for answer, status, code in refused:
        assert (answer.status_code, answer.json()["error_code"]) == (status, code), answer.text
        assert answer.json()["message"]
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.headers["x-request-id"]


def test_requests_that_are_no_proper_http_get_json_too(wye: Wye) -> None:
    """What Envoy refuses before it looks at the path: an escaped slash in it, headers without end."""
    for answer, status in (
        (wye.client.get("/serving-endpoints/a%2Fb/invocations"), 400),
        (wye.client.get("/serving-endpoints/x", headers={"x": "y" * 70_000}), 431),
    ):
        assert (answer.status_code, answer.json()["error_code"]) == (status, "BAD_REQUEST"), answer.text


def test_a_malformed_body_is_told_with_line_and_column(wye: Wye) -> None:
    """A missing comma gets a 400 that says where."""
    text = '{"name": "x",\n "config": {"served_entities": []}\n "tags": []}'
    answer = wye.client.post("/api/2.0/serving-endpoints", content=text, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")
    assert "line 3 column 2" in answer.json()["message"]


def test_an_unknown_model_version_is_refused_and_nothing_is_made(wye: Wye) -> None:
    """A version that the registry does not have is a 404 that names it, and no endpoint."""
    body = {"name": "ghost", "config": {"served_entities": [{"entity_name": "linear", "entity_version": "99"}]}}
    answer = wye.client.post("/api/2.0/serving-endpoints", json=body)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "99" in answer.json()["message"]
    assert wye.client.get("/api/2.0/serving-endpoints/ghost").status_code == 404


def test_an_endpoint_without_a_config_says_that_it_is_not_ready(wye: Wye) -> None:
    """Creating without a config is legal; a query is then a 400 that says why, and deletion makes it a 404."""
    assert wye.client.post("/api/2.0/serving-endpoints/", json={"name": "empty"}).status_code == 200
    until(lambda: wye.predict("empty").status_code == 400, what="the endpoint is found")
    assert wye.predict("empty").json()["error_code"] == "BAD_REQUEST"
    assert wye.client.delete("/api/2.0/serving-endpoints/empty").json() == {}
    until(lambda: wye.predict("empty").status_code == 404, what="the endpoint is gone")
