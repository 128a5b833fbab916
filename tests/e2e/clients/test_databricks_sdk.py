"""The unmodified databricks-sdk on the public port: every method of ServingEndpointsAPI, every error class."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient, errors
from databricks.sdk.config import Config
from databricks.sdk.service.serving import (
    AiGatewayConfig,
    AiGatewayGuardrailParameters,
    AiGatewayGuardrails,
    AiGatewayInferenceTableConfig,
    AiGatewayRateLimit,
    AiGatewayRateLimitKey,
    AiGatewayRateLimitRenewalPeriod,
    AiGatewayUsageTrackingConfig,
    DataframeSplitInput,
    EmailNotifications,
    EndpointCoreConfigInput,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    EndpointTag,
    ExternalFunctionRequestHttpMethod,
    PtEndpointCoreConfig,
    PtServedModel,
    RateLimit,
    RateLimitKey,
    RateLimitRenewalPeriod,
    Route,
    ServedEntityInput,
    ServingEndpointDetailed,
    ServingEndpointsAPI,
    TelemetryConfig,
    TrafficConfig,
)

from tests.e2e.wye import EXAMPLE, Wye, config, until

PATH = "/api/2.0/serving-endpoints"
NAME = "sdk"

#: Who covers which method; a new release of the SDK that has another one fails the first test.
HERE = frozenset(
    {
        *("build_logs", "create", "create_and_wait", "delete", "export_metrics", "get", "get_open_api", "list", "logs"),
        *("create_provisioned_throughput_endpoint", "create_provisioned_throughput_endpoint_and_wait", "http_request"),
        *(
            "patch",
            "patch_telemetry_config",
            "put",
            "put_ai_gateway",
            "query",
            "update_config",
            "update_config_and_wait",
        ),
        *("update_notifications", "wait_get_serving_endpoint_not_updating"),
        *(
            "update_provisioned_throughput_endpoint_config",
            "update_provisioned_throughput_endpoint_config_and_wait",
        ),
    }
)
WITH_OPENAI = frozenset({"get_open_ai_client"})
#: Needs LangChain, and gives it the same URL and key.
LEFT_OUT = frozenset({"get_langchain_chat_open_ai_client"})
WITH_PERMISSIONS = frozenset({"get_permission_levels", "get_permissions", "set_permissions", "update_permissions"})


def entity(name: str, version: str, model: str = "linear", **fields: Any) -> ServedEntityInput:
    """A served entity."""
    return ServedEntityInput(name=name, entity_name=model, entity_version=version, **fields)


def split(**shares: int) -> TrafficConfig:
    """A traffic split."""
    return TrafficConfig(
        routes=[Route(served_model_name=name, traffic_percentage=share) for name, share in shares.items()]
    )


@pytest.fixture(scope="module")
def client(wye: Wye) -> Iterator[WorkspaceClient]:
    """The SDK's client."""
    made = WorkspaceClient(config=Config(host=wye.url, token=wye.token, retry_timeout_seconds=20))
    yield made
    made.api_client._api_client._session.close()


@pytest.fixture(scope="module")
def live(client: WorkspaceClient) -> Iterator[ServingEndpointsAPI]:
    """The SDK's serving endpoints, with an endpoint of two entities that is deployed."""
    api = client.serving_endpoints
    wanted = EndpointCoreConfigInput(
        name=NAME, served_entities=[entity("a", "1"), entity("b", "2")], traffic_config=split(a=90, b=10)
    )
    created = api.create_and_wait(
        name=NAME, config=wanted, tags=[EndpointTag("team", "x")], description="d", route_optimized=True
    )
    assert created.state.ready is EndpointStateReady.READY
    yield api
    api.delete(NAME)
    with pytest.raises(errors.ResourceDoesNotExist):
        api.get(NAME)


def test_every_method_of_the_sdk_is_used(client: WorkspaceClient) -> None:
    """There is no method of the SDK's API that no test calls."""
    methods = {name for name in dir(client.serving_endpoints) if not name.startswith("_")}
    assert methods == HERE | WITH_PERMISSIONS | WITH_OPENAI | LEFT_OUT


def test_what_was_created_reads_back(live: ServingEndpointsAPI) -> None:
    """Get and list show what was submitted, in the SDK's own types."""
    endpoint = live.get(NAME)
    assert [each.name for each in endpoint.config.served_entities] == ["a", "b"]
    assert [route.traffic_percentage for route in endpoint.config.traffic_config.routes] == [90, 10]
    assert (endpoint.description, endpoint.route_optimized, endpoint.tags) == ("d", True, [EndpointTag("team", "x")])
    assert re.fullmatch("[0-9a-f]{32}", endpoint.id)
    assert NAME in [each.name for each in live.list()]


def test_queries(client: WorkspaceClient, live: ServingEndpointsAPI) -> None:
    """Each form of input is answered, with the served model's name; one model is asked through the SDK's api_client."""
    values = {"a": 21.0, "b": 42.0}
    for body in (
        {"dataframe_records": [{"x": 1.0, "y": 2.0}]},
        {"dataframe_split": DataframeSplitInput(columns=["x", "y"], data=[[1.0, 2.0]])},
        {"inputs": {"x": [1.0], "y": [2.0]}},
        {"instances": [{"x": 1.0, "y": 2.0}], "client_request_id": "r-1"},
    ):
        answer = live.query(NAME, **body)
        assert answer.predictions == [pytest.approx(values[answer.served_model_name])]
    for served, value in values.items():
        path = f"/serving-endpoints/{NAME}/served-models/{served}/invocations"
        assert client.api_client.do("POST", path, body=EXAMPLE) == {"predictions": [pytest.approx(value)]}


def test_an_update_is_waited_for(live: ServingEndpointsAPI) -> None:
    """update_config_and_wait returns when the new weights serve; a bare update is waited for by name."""
    entities = [entity("a", "1"), entity("b", "2")]
    updated = live.update_config_and_wait(NAME, served_entities=entities, traffic_config=split(a=0, b=100))
    assert updated.state.config_update is EndpointStateConfigUpdate.NOT_UPDATING
    assert live.query(NAME, **EXAMPLE).served_model_name == "b"
    version = updated.config.config_version
    live.update_config(NAME, served_entities=entities, traffic_config=split(a=90, b=10))
    again = live.wait_get_serving_endpoint_not_updating(NAME)
    assert again.config.config_version == version + 1


def test_tags(live: ServingEndpointsAPI) -> None:
    """PATCH adds and deletes, and answers all there are."""
    tags = live.patch(NAME, add_tags=[EndpointTag("a", "1"), EndpointTag("b")], delete_tags=["team", "absent"]).tags
    assert [(tag.key, tag.value) for tag in tags] == [("a", "1"), ("b", "")]
    assert live.get(NAME).tags == tags
    live.patch(NAME, add_tags=[EndpointTag("team", "x")], delete_tags=["a", "b"])


def test_rate_limits(live: ServingEndpointsAPI) -> None:
    """The deprecated call stores what it answers; GET does not show it; an empty list removes them."""
    limit = RateLimit(calls=100_000, key=RateLimitKey.USER, renewal_period=RateLimitRenewalPeriod.MINUTE)
    assert live.put(NAME, rate_limits=[limit]).rate_limits == [limit]
    assert "rate_limits" not in live.get(NAME).as_dict()
    assert live.put(NAME, rate_limits=[]).rate_limits in (None, [])


def test_ai_gateway(live: ServingEndpointsAPI) -> None:
    """The settings are answered, shown by GET, replaced as a whole and removed by an empty body."""
    limit = AiGatewayRateLimit(
        calls=100_000,
        key=AiGatewayRateLimitKey.ENDPOINT,
        renewal_period=AiGatewayRateLimitRenewalPeriod.MINUTE,
    )
    usage = AiGatewayUsageTrackingConfig(enabled=True)
    table = AiGatewayInferenceTableConfig(catalog_name="c", schema_name="s", enabled=True)
    answer = live.put_ai_gateway(NAME, rate_limits=[limit], usage_tracking_config=usage, inference_table_config=table)
    assert (answer.rate_limits, answer.usage_tracking_config, answer.inference_table_config) == ([limit], usage, table)
    assert live.get(NAME).ai_gateway == AiGatewayConfig.from_dict(answer.as_dict())
    guardrails = AiGatewayGuardrails(input=AiGatewayGuardrailParameters(safety=True))
    with pytest.raises(errors.NotImplemented, match="does not look into requests"):
        live.put_ai_gateway(NAME, guardrails=guardrails)
    live.put_ai_gateway(NAME)
    assert live.get(NAME).ai_gateway is None


def test_notifications_and_telemetry(live: ServingEndpointsAPI) -> None:
    """Both are kept and shown; names of telemetry tables are written and not read."""
    mail = EmailNotifications(on_update_failure=["me@corp.example"])
    assert live.update_notifications(NAME, email_notifications=mail).email_notifications == mail
    assert live.get(NAME).email_notifications == mail
    tables = {"table_names": {"logs_table": "c.s.logs"}}
    shown = live.patch_telemetry_config(NAME, telemetry_config=TelemetryConfig.from_dict(tables)).telemetry_config
    assert shown.telemetry_profile_id
    assert shown.table_names is None
    assert live.patch_telemetry_config(NAME).telemetry_config is None


def test_logs(live: ServingEndpointsAPI) -> None:
    """Each line of a served model's log begins with its replica's id; the build log says which environment it has."""
    logs = live.logs(NAME, "a").logs
    assert re.match(r"\[[0-9a-f]{8}-1-a-0\] --- sdk/a \(linear 1\)", logs), logs
    assert live.build_logs(NAME, "a").logs is not None
    with pytest.raises(errors.ResourceDoesNotExist, match="no served model named ghost"):
        live.logs(NAME, "ghost")


def test_metrics(live: ServingEndpointsAPI) -> None:
    """Requests are counted per served model, errors too, under the names that scrapers look for."""

    def figure(name: str, served: str) -> float:
        text = live.export_metrics(NAME).contents.read().decode()
        line = f'{name}{{endpoint_name="{NAME}",served_entity_name="{served}"}} '
        found = [float(each.removeprefix(line)) for each in text.splitlines() if each.startswith(line)]
        return found[0] if found else -1.0

    def requests() -> float:
        return figure("request_count_total", "a") + figure("request_count_total", "b")

    before = requests()
    for _ in range(20):
        live.query(NAME, **EXAMPLE)
    with pytest.raises(errors.BadRequest):
        live.query(NAME, dataframe_records=[{"x": 1.0}])
    # Envoy rests after a reading, many times as long as that took it.
    until(lambda: requests() - before >= 21, 60, "all of them are counted")
    assert figure("request_4xx_count_total", "a") + figure("request_4xx_count_total", "b") >= 1
    assert figure("provisioned_concurrent_requests_total", "a") == 4
    assert 0 < figure("mem_usage_percentage", "a") < 100
    assert figure("cpu_usage_percentage", "a") >= 0
    # Envoy makes a histogram visible a few seconds after its first value.
    until(lambda: figure("request_latency_ms_count", "a") >= 1, 20, "latencies are shown")
    assert figure("model_prediction_latency_ms_count", "a") >= 1


def test_open_api(client: WorkspaceClient, live: ServingEndpointsAPI) -> None:
    """Every served model has a path whose example is a request that the model answers."""
    document = json.loads(live.get_open_api(NAME).contents.read())
    assert (document["openapi"], document["info"]["title"]) == ("3.1.0", NAME)
    assert list(document["paths"]) == ["/served-models/a/invocations", "/served-models/b/invocations"]
    for path, operations in document["paths"].items():
        example = operations["post"]["requestBody"]["content"]["application/json"]["example"]
        assert client.api_client.do("POST", f"/serving-endpoints/{NAME}{path}", body=example)["predictions"]


def test_what_wye_does_not_have(client: WorkspaceClient, live: ServingEndpointsAPI) -> None:
    """Provisioned throughput and external functions are NOT_IMPLEMENTED, with a sentence."""
    model = PtServedModel(entity_name="m", provisioned_model_units=50)
    core = PtEndpointCoreConfig(served_entities=[model])
    for call in (
        lambda: live.create_provisioned_throughput_endpoint("p", core),
        lambda: live.create_provisioned_throughput_endpoint_and_wait("p", core),
        lambda: live.update_provisioned_throughput_endpoint_config("p", core),
        lambda: live.update_provisioned_throughput_endpoint_config_and_wait("p", core),
        lambda: live.http_request("c", ExternalFunctionRequestHttpMethod.GET, "/"),
    ):
        with pytest.raises(errors.NotImplemented, match="not available: Wye"):
            call()


def test_each_error_is_its_own_class(client: WorkspaceClient, live: ServingEndpointsAPI) -> None:
    """What users catch is what is raised."""
    good = EndpointCoreConfigInput(name=NAME, served_entities=[entity("a", "1")])
    with pytest.raises(errors.ResourceAlreadyExists):
        live.create(NAME, config=good)
    with pytest.raises(errors.InvalidParameterValue, match="add up to 90"):
        live.update_config(NAME, served_entities=[entity("a", "1")], traffic_config=split(a=90))
    with pytest.raises(errors.BadRequest, match="must be a JSON object"):
        client.api_client.do("POST", PATH, body=[1])
    for missing in (
        lambda: live.get("nobody"),
        lambda: live.delete("nobody"),
        lambda: live.query("nobody", **EXAMPLE),
        lambda: live.update_config(NAME, served_entities=[entity("a", "99")]),
        lambda: live.update_config(NAME, served_entities=[entity("a", "1", "ghost")]),
    ):
        with pytest.raises(errors.ResourceDoesNotExist):
            missing()
    stranger = WorkspaceClient(host=client.config.host, token="wrong")
    with pytest.raises(errors.Unauthenticated):
        stranger.serving_endpoints.get(NAME)
    stranger.api_client._api_client._session.close()


def test_a_failed_update_keeps_what_serves_and_its_logs(wye: Wye, live: ServingEndpointsAPI) -> None:
    """Waiting raises OperationFailed; the reason is in the endpoint, and the failed version's logs stay to be read."""
    entities = [entity("a", "1"), entity("b", "1", "broken")]
    with pytest.raises(errors.OperationFailed, match="UPDATE_FAILED"):
        live.update_config_and_wait(NAME, served_entities=entities, traffic_config=split(a=100, b=0))
    endpoint = live.get(NAME)
    assert endpoint.state.ready is EndpointStateReady.READY
    assert "another century" in endpoint.pending_config.served_entities[1].state.deployment_state_message
    assert live.query(NAME, **EXAMPLE).predictions
    version = endpoint.pending_config.config_version
    assert "another century" in live.logs(NAME, "b").logs
    (wye.state_dir / "logs" / "replicas" / f"{endpoint.id[:8]}-{version}-b-0.log").unlink()
    path = f"{PATH}/{NAME}/served-models/b/logs"
    kept = wye.client.get(path, params={"config_version": version}).json()["logs"]
    assert "another century" in kept
    assert "another century" not in wye.client.get(path, params={"config_version": 1}).json()["logs"]
    # During the update of something else, a second update is refused.
    body = config({"a": 90, "b": 10}, a="linear/1", b="linear/3")
    first = ServingEndpointDetailed.from_dict(wye.client.put(f"{PATH}/{NAME}/config", json=body).json())
    if first.state.config_update is EndpointStateConfigUpdate.IN_PROGRESS:
        refused = wye.client.put(f"{PATH}/{NAME}/config", json=body)
        assert refused.status_code in {200, 409}
    wye.settled(NAME)
