"""The unmodified Databricks SDK against the API on its real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from databricks.sdk import WorkspaceClient, errors
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    NotFound,
    OperationFailed,
    ResourceAlreadyExists,
    ResourceConflict,
    ResourceDoesNotExist,
)
from databricks.sdk.service.serving import (
    EndpointCoreConfigInput,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    EndpointTag,
    ExternalModel,
    ExternalModelProvider,
    Route,
    ServedEntityInput,
    ServedModelInput,
    ServingEndpointsAPI,
    TrafficConfig,
)

from controlplane.api import serve
from controlplane.domain import Address
from tests.controlplane.api.harness import Api

ENTITIES = [
    ServedEntityInput(name="current", entity_name="churn", entity_version="3", scale_to_zero_enabled=False),
    ServedEntityInput(name="challenger", entity_name="churn", entity_version="4"),
]


def split(current: int) -> TrafficConfig:
    """A share for `current`, the rest for `challenger`."""
    return TrafficConfig(
        routes=[
            Route(served_model_name="current", traffic_percentage=current),
            Route(served_model_name="challenger", traffic_percentage=100 - current),
        ]
    )


@pytest.fixture
def sdk(api: Api) -> Iterator[ServingEndpointsAPI]:
    """The SDK's serving endpoints."""
    server = serve(api.app, Address(host="127.0.0.1", port=0))
    client = WorkspaceClient(host=f"http://{server.address}", token="t")
    yield client.serving_endpoints
    client.api_client._api_client._session.close()
    server.close()


def test_the_life_of_an_endpoint(api: Api, sdk: ServingEndpointsAPI) -> None:
    """Create, wait, get, list, update and delete work as the SDK's methods."""
    config = EndpointCoreConfigInput(name="e", served_entities=ENTITIES, traffic_config=split(90))
    waiting = sdk.create(name="e", config=config, tags=[EndpointTag("team", "a")], description="d")
    assert waiting.response.state.config_update is EndpointStateConfigUpdate.IN_PROGRESS
    api.succeed("e")
    created = waiting.result()
    assert created.state.ready is EndpointStateReady.READY
    assert [entity.name for entity in created.config.served_entities] == ["current", "challenger"]
    assert [route.traffic_percentage for route in created.config.traffic_config.routes] == [90, 10]
    assert created.tags == [EndpointTag("team", "a")]
    assert [endpoint.name for endpoint in sdk.list()] == ["e"]
    updating = sdk.update_config(name="e", served_entities=ENTITIES, traffic_config=split(50))
    assert updating.response.pending_config.config_version == 2
    api.succeed("e")
    assert updating.result().config.config_version == 2
    assert [route.traffic_percentage for route in sdk.get("e").config.traffic_config.routes] == [50, 50]
    sdk.delete("e")
    with pytest.raises(ResourceDoesNotExist):
        sdk.get("e")


def test_the_old_spelling(api: Api, sdk: ServingEndpointsAPI) -> None:
    """served_models work as served_entities do, and the answer has both."""
    model = ServedModelInput(scale_to_zero_enabled=True, model_name="churn", model_version="3", workload_size="Medium")
    waiting = sdk.create(name="e", config=EndpointCoreConfigInput(name="e", served_models=[model]))
    api.succeed("e")
    config = waiting.result().config
    assert config.served_models[0].model_version == config.served_entities[0].entity_version == "3"
    assert config.served_models[0].workload_size == "Medium"
    assert config.traffic_config.routes[0].served_model_name == "churn-3"


def test_a_failed_update_raises(api: Api, sdk: ServingEndpointsAPI) -> None:
    """Waiting for an update that fails raises OperationFailed, and the reason is in the endpoint."""
    waiting = sdk.create(
        name="e", config=EndpointCoreConfigInput(name="e", served_entities=ENTITIES, traffic_config=split(90))
    )
    api.fail("e", "No module named 'x'")
    with pytest.raises(OperationFailed, match="UPDATE_FAILED"):
        waiting.result()
    failed = sdk.get("e")
    assert failed.pending_config.served_entities[0].state.deployment_state_message == "No module named 'x'"
    assert failed.state.ready is EndpointStateReady.NOT_READY


def test_each_refusal_is_the_exception_that_users_catch(sdk: ServingEndpointsAPI) -> None:
    """The SDK raises its own class for each kind of refusal."""
    good = EndpointCoreConfigInput(name="e", served_entities=ENTITIES, traffic_config=split(90))
    with pytest.raises(InvalidParameterValue, match=r"config\.traffic_config\.routes: has no route for 'challenger'"):
        sdk.create(name="e", config=EndpointCoreConfigInput(name="e", served_entities=ENTITIES))
    absent = EndpointCoreConfigInput(name="e", served_entities=[ServedEntityInput(entity_name="x", entity_version="1")])
    with pytest.raises(ResourceDoesNotExist, match="no model named 'x' is registered"):
        sdk.create(name="e", config=absent)
    model = ExternalModel(name="gpt", provider=ExternalModelProvider.OPENAI, task="llm/v1/chat")
    external = EndpointCoreConfigInput(name="e", served_entities=[ServedEntityInput(external_model=model)])
    with pytest.raises(errors.NotImplemented, match="not supported"):
        sdk.create(name="e", config=external)
    sdk.create(name="e", config=good)
    with pytest.raises(ResourceAlreadyExists):
        sdk.create(name="e", config=good)
    with pytest.raises(ResourceConflict):
        sdk.update_config(name="e", served_entities=ENTITIES, traffic_config=split(10))
    with pytest.raises(NotFound):
        sdk.delete("absent")
    with pytest.raises(BadRequest):
        sdk.create(name="pt", config=good)
