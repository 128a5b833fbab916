"""Any body at all, sent to every call that takes one: the answer is JSON, never a 5xx, and a refusal changes nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.domain import UpdateState
from tests.controlplane.api.harness import PATH, Api, config
from tests.controlplane.api.test_api_errors import code_of

CALLS = (
    ("POST", PATH),
    ("POST", f"{PATH}?dry_run=true"),
    ("PUT", f"{PATH}/fixed"),
    ("PUT", f"{PATH}/fixed?dry_run=true"),
    ("PUT", f"{PATH}/fixed/config"),
    ("PUT", f"{PATH}/fixed/config?dry_run=true"),
    ("POST", f"{PATH}/fixed/config:rollback"),
    ("PATCH", f"{PATH}/fixed/tags"),
    ("PUT", f"{PATH}/fixed/rate-limits"),
    ("PUT", f"{PATH}/fixed/ai-gateway"),
    ("PATCH", f"{PATH}/fixed/notifications"),
    ("PATCH", f"{PATH}/fixed/telemetry-config"),
)

_KEYS = st.sampled_from(
    [
        *("name", "config", "served_entities", "served_models", "traffic_config", "routes", "description", "tags"),
        *("entity_name", "model_name", "entity_version", "model_version", "entity_version_alias", "workload_size"),
        *("scale_to_zero_enabled", "min_provisioned_concurrency", "environment_vars", "external_model"),
        *("served_model_name", "traffic_percentage", "key", "value", "add_tags", "delete_tags", "config_version"),
        *("rate_limits", "calls", "renewal_period", "principal", "tokens", "ai_gateway", "guardrails", "input"),
        *("fallback_config", "inference_table_config", "usage_tracking_config", "enabled", "pii", "behavior"),
        *("email_notifications", "on_update_success", "telemetry_config", "table_names", "sampling_fraction", "zzz"),
        *("auto_capture_config", "budget_policy_id", "route_optimized", "enabled_telemetry_features"),
    ]
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["churn", "3", "@a", "models:/churn/3", "models:/", "minute", "user", "endpoint", "100", "Small"]),
)
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5), max_leaves=10
)


def _refusal_changes_nothing(api: Api, method: str, path: str, sent: dict[str, Any]) -> None:
    if api.endpoints.get("fixed") is None:
        assert api.client.post(PATH, json={"name": "fixed", "config": config()}).status_code == 200
        api.succeed("fixed")
    before = api.endpoints.cell.snapshot()
    answer = api.client.open(path, method=method, **sent)
    if answer.status_code == 200:
        assert isinstance(answer.get_json(), dict)
    else:
        status, _ = code_of(answer)
        assert 400 <= status < 500 or status == 501
    if answer.status_code != 200 or "dry_run" in path:
        assert api.endpoints.cell.snapshot() == before
        assert {endpoint.name: endpoint for endpoint in api.store.endpoints()} == before
        return
    for name, endpoint in api.endpoints.cell.snapshot().items():
        if name != "fixed" or endpoint.update is UpdateState.IN_PROGRESS:
            api.client.delete(f"{PATH}/{name}")


@settings(
    deadline=None,
    max_examples=450,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=st.dictionaries(_KEYS, _JSON, max_size=6))
def test_any_object_gets_an_answer(api: Api, body: dict[str, Any]) -> None:
    """Whatever the object holds, every call understands it or refuses it with words."""
    for method, path in CALLS:
        _refusal_changes_nothing(api, method, path, {"json": body})


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(body=st.binary(max_size=40) | _JSON.map(lambda value: repr(value).encode("utf-8", "replace")))
def test_any_bytes_get_an_answer(api: Api, body: bytes) -> None:
    """Bytes that are no JSON object, or only look like one, are refused in the same way."""
    for method, path in CALLS:
        _refusal_changes_nothing(api, method, path, {"data": body, "content_type": "application/json"})
