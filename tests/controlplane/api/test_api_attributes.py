"""Tags, rate limits, AI gateway, notifications, telemetry; logs, metrics, OpenAPI; and what is not built."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.api import create_app
from controlplane.domain import LimitKey, Problem, ProblemCode, ProblemError, RateLimit
from controlplane.domain.measurement import EntityMeasurement, Histogram, LogKind
from controlplane.domain.model import ModelDescription
from tests.controlplane.api.harness import PATH, Api, config


@pytest.fixture
def live(api: Api) -> Api:
    """An API with the endpoint `e`, whose first config is active."""
    assert api.client.post(PATH, json={"name": "e", "config": config()}).status_code == 200
    api.succeed("e")
    return api


def call(api: Api, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """A call below the endpoint `e` and its JSON."""
    answer = api.client.open(f"{PATH}/e{path}", method=method, json=body)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def test_settings_apply_in_the_middle_of_an_update(live: Api) -> None:
    """What is outside the config needs no new version and does not wait; telemetry does."""
    call(live, "PUT", "/config", config(50))
    call(live, "PATCH", "/tags", {"add_tags": [{"key": "k"}]})
    call(live, "PUT", "/ai-gateway", {"usage_tracking_config": {"enabled": True}})
    call(live, "PATCH", "/notifications", {"email_notifications": {"on_update_failure": ["a@b"]}})
    call(live, "PATCH", "/telemetry-config", {"telemetry_config": {"telemetry_profile_id": "p"}}, 409)
    shown = call(live, "GET", "")
    assert shown["pending_config"]["config_version"] == 2
    assert shown["ai_gateway"] == {"usage_tracking_config": {"enabled": True}}
    assert shown["email_notifications"] == {"on_update_failure": ["a@b"]}


def test_rate_limits_become_values(live: Api) -> None:
    """Those of both calls are the endpoint's limits; each call replaces its own."""
    limit = {"calls": "10", "renewal_period": "minute"}
    answer = call(live, "PUT", "/rate-limits", {"rate_limits": [limit, {**limit, "key": "user", "calls": 5}]})
    assert answer["rate_limits"][0] == {"calls": 10, "key": "endpoint", "renewal_period": "minute"}
    named = {**limit, "key": "user", "principal": "me@corp.example"}
    call(live, "PUT", "/ai-gateway", {"rate_limits": [named, {**limit, "key": "user_group", "principal": "g"}]})
    endpoint = live.endpoints.get("e")
    assert endpoint is not None
    assert endpoint.limits == (
        RateLimit(10),
        RateLimit(5, LimitKey.USER),
        RateLimit(10, LimitKey.USER, "me@corp.example"),
        RateLimit(10, LimitKey.USER_GROUP, "g"),
    )
    assert call(live, "PUT", "/ai-gateway", {}) == {}
    call(live, "PUT", "/rate-limits", {})
    endpoint = live.endpoints.get("e")
    assert endpoint is not None
    assert endpoint.limits == ()
    assert "rate_limits" not in call(live, "GET", "")


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PATCH", "/tags", {"add_tags": [{"value": "x"}]}, "add_tags[0].key"),
        ("PATCH", "/tags", {"delete_tags": [1]}, "delete_tags[0]"),
        ("PUT", "/rate-limits", {"rate_limits": [{"calls": 0, "renewal_period": "minute"}]}, "rate_limits[0].calls"),
        ("PUT", "/rate-limits", {"rate_limits": [{"calls": 1}]}, "rate_limits[0].renewal_period"),
        (
            "PUT",
            "/rate-limits",
            {"rate_limits": [{"calls": 1, "renewal_period": "minute", "key": "user_group"}]},
            "rate_limits[0].key",
        ),
        ("PUT", "/rate-limits", {"rate_limits": [{"calls": 1, "renewal_period": "minute"}] * 2}, "rate_limits"),
        (
            "PUT",
            "/ai-gateway",
            {"rate_limits": [{"calls": 1, "renewal_period": "minute", "key": "user_group"}]},
            "rate_limits[0].principal",
        ),
        ("PUT", "/ai-gateway", {"fallback_config": {"enabled": "perhaps"}}, "fallback_config.enabled"),
        ("PUT", "/ai-gateway", {"inference_table_config": []}, "inference_table_config"),
        (
            "PATCH",
            "/notifications",
            {"email_notifications": {"on_update_success": "me"}},
            "email_notifications.on_update_success",
        ),
        (
            "PATCH",
            "/telemetry-config",
            {"telemetry_config": {"inference_table_config": {"sampling_fraction": 2}}},
            "telemetry_config.inference_table_config.sampling_fraction",
        ),
    ],
)
def test_wrong_settings_change_nothing(live: Api, method: str, path: str, body: Any, field: str) -> None:
    """The field that is wrong is named, and the endpoint stays as it was."""
    before = live.store.endpoints()
    answer = call(live, method, path, body, 400)
    assert answer["error_code"] == "INVALID_PARAMETER_VALUE"
    assert answer["details"][1]["field_violations"][0]["field"] == field
    assert live.store.endpoints() == before
    live.client.delete(f"{PATH}/e")
    call(live, method, path, body, 404)


def test_what_would_not_be_kept_is_refused(live: Api) -> None:
    """Guardrails and limits of tokens are NOT_IMPLEMENTED, unless they ask for nothing."""
    nothing = {"guardrails": {"input": {"safety": False, "pii": {"behavior": "NONE"}}}}
    assert call(live, "PUT", "/ai-gateway", nothing) == nothing
    call(live, "PUT", "/ai-gateway", {"guardrails": {"output": {"pii": {"behavior": "BLOCK"}}}}, 501)
    call(live, "PUT", "/ai-gateway", {"rate_limits": [{"tokens": 5, "renewal_period": "minute"}]}, 501)


def test_names_of_telemetry_tables_are_not_read_back(live: Api) -> None:
    """A profile's id stands for them, the same one each time."""
    asked = {"telemetry_config": {"table_names": {"logs_table": "a.b.c"}}}
    shown = call(live, "PATCH", "/telemetry-config", asked)["telemetry_config"]
    assert set(shown) == {"telemetry_profile_id"}
    assert call(live, "GET", "")["telemetry_config"] == shown


def test_telemetry_needs_a_model(api: Api) -> None:
    """An endpoint that serves nothing has none."""
    api.client.post(PATH, json={"name": "e"})
    call(api, "PATCH", "/telemetry-config", {"telemetry_config": {"telemetry_profile_id": "p"}}, 400)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", f"{PATH}/pt"), ("PUT", f"{PATH}/pt/e/config"), ("POST", "/api/2.0/external-function")],
)
def test_what_has_no_meaning_here(api: Api, method: str, path: str) -> None:
    """It says so in one sentence, whatever is sent."""
    answer = api.client.open(path, method=method, data=b"{")
    assert (answer.status_code, answer.get_json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert answer.get_json()["message"].count(".") == 1


def test_logs_are_those_of_the_latest_version_that_has_the_entity(live: Api) -> None:
    """Pending before active before history; a version can be named; kept ones step in for those that are gone."""
    endpoint = live.endpoints.get("e")
    assert endpoint is not None
    printed = {f"{endpoint.id[:8]}-1-challenger-0": "one", f"{endpoint.id[:8]}-2-challenger-0": "two\nlines"}
    away = False

    def logs(replica: str, _lines: int, kind: LogKind) -> str:
        if away:
            raise ProblemError(Problem("", ProblemCode.TEMPORARILY_UNAVAILABLE, "away"))
        return printed.get(replica, "") if kind is LogKind.OUTPUT else "built"

    client = create_app(replace(live.deps, logs=logs)).test_client()
    path = f"{PATH}/e/served-models/challenger/logs"
    assert client.get(path).get_json() == {"logs": f"[{endpoint.id[:8]}-1-challenger-0] one"}
    call(live, "PUT", "/config", config(version="5"))
    two = "\n".join(f"[{endpoint.id[:8]}-2-challenger-0] {line}" for line in ("two", "lines"))
    assert client.get(path).get_json() == {"logs": two}
    assert client.get(f"{path}?config_version=1").get_json()["logs"].endswith("one")
    assert "built" in client.get(path.replace("/logs", "/build-logs")).get_json()["logs"]
    live.fail("e", "x")
    live.store.keep_logs(endpoint.id, 2, {("challenger", LogKind.OUTPUT): "kept"})
    assert client.get(path).get_json() == {"logs": two}
    printed.clear()
    assert client.get(path).get_json() == {"logs": "kept"}
    away = True
    assert client.get(path).get_json() == {"logs": "kept"}
    assert client.get(f"{path}?config_version=1").status_code == 503
    assert client.get(f"{path}?config_version=3").status_code == 404
    assert client.get(f"{path}?config_version=x").status_code == 400


def test_metrics_are_prometheus_text(live: Api) -> None:
    """What was measured has a line per served entity, and what was not has none."""
    latency = Histogram(((5.0, 1), (float("inf"), 2)), 12.5)
    measured = EntityMeasurement("current", 1, 4, requests=3, histograms=(("request_latency_ms", latency),))
    client = create_app(replace(live.deps, measurements=lambda *_: (measured,))).test_client()
    answer = client.get(f"{PATH}/e/metrics", headers={"Content-Type": "application/openmetrics-text"})
    assert answer.content_type.startswith("text/plain")
    labels = 'endpoint_name="e",served_entity_name="current"'
    assert [line for line in answer.text.splitlines() if not line.startswith("#")] == [
        f"provisioned_concurrent_requests_total{{{labels}}} 4",
        f"request_count_total{{{labels}}} 3",
        f'request_latency_ms_bucket{{{labels},le="5"}} 1',
        f'request_latency_ms_bucket{{{labels},le="+Inf"}} 2',
        f"request_latency_ms_sum{{{labels}}} 12.5",
        f"request_latency_ms_count{{{labels}}} 2",
    ]
    assert client.get(f"{PATH}/absent/metrics").status_code == 404


INPUTS = '[{"type": "double", "name": "x", "required": true}, {"type": "string", "name": "s", "required": false}]'


def test_openapi_of_an_endpoint(live: Api) -> None:
    """A path per served model; the example is the model's own, else one made from the signature."""
    live.registry.descriptions = {
        "/m/3": ModelDescription(inputs=INPUTS, outputs='[{"type": "double", "required": true}]'),
        "/m/4": ModelDescription(example='{"inputs": [1]}', params='[{"name": "f", "type": "float", "default": 2.0}]'),
    }
    document = call(live, "GET", "/openapi")
    assert document["servers"] == [{"url": "http://localhost/serving-endpoints/e"}]
    first, second = (
        document["paths"][f"/served-models/{name}/invocations"]["post"]["requestBody"]["content"]["application/json"]
        for name in ("current", "challenger")
    )
    assert first["example"] == {"dataframe_split": {"columns": ["x", "s"], "data": [[0.0, ""]]}}
    split, records = (body["properties"] for body in first["schema"]["oneOf"])
    assert split["dataframe_split"]["properties"]["columns"] == {"type": "array", "const": ["x", "s"]}
    assert records["dataframe_records"]["items"]["required"] == ["x"]
    assert second["example"] == {"inputs": [1]}
    assert second["schema"]["oneOf"][0]["properties"]["params"]["properties"]["f"]["default"] == 2.0


def test_openapi_needs_something_to_describe(live: Api) -> None:
    """Models without signature and example, and endpoints that do not serve, are BAD_REQUEST with what to do."""
    assert "signature" in call(live, "GET", "/openapi", status=400)["message"]
    live.client.post(f"{PATH}/e/config:stop")
    assert "is stopped" in call(live, "GET", "/openapi", status=400)["message"]
