"""MLflow's deployments client for Databricks, unmodified, on the public port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mlflow.deployments import BaseDeploymentClient, get_deploy_client
from requests.exceptions import HTTPError

from tests.e2e.wye import EXAMPLE, Wye, config

#: MLflow warns of its own older spellings, which are tested here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")

NAME = "through-mlflow"


@pytest.fixture(scope="module")
def client(wye: Wye) -> Iterator[BaseDeploymentClient]:
    """The client, pointed at Wye as it is pointed at a workspace."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DATABRICKS_HOST", wye.url)
        environment.setenv("DATABRICKS_TOKEN", wye.token)
        yield get_deploy_client("databricks")


def test_the_life_of_an_endpoint(wye: Wye, client: BaseDeploymentClient) -> None:
    """Create, get, list, predict, update and delete do what they do on Databricks."""
    created = client.create_endpoint(NAME, config=config({"a": 100, "b": 0}, a="linear/1", b="linear/2"))
    assert created.state.config_update == "IN_PROGRESS"
    wye.settled(NAME)
    assert client.get_endpoint(NAME).state.ready == "READY"
    assert NAME in [endpoint["name"] for endpoint in client.list_endpoints()]
    assert client.predict(endpoint=NAME, inputs=EXAMPLE)["predictions"] == [pytest.approx(21.0)]
    new = config({"a": 0, "b": 100}, a="linear/1", b="linear/2")
    assert client.update_endpoint_config(NAME, new).pending_config.config_version == 2
    wye.settled(NAME)
    assert client.predict(endpoint=NAME, inputs=EXAMPLE)["predictions"] == [pytest.approx(42.0)]
    tags = client.update_endpoint_tags(NAME, {"add_tags": [{"key": "k", "value": "v"}]})
    assert tags["tags"][0]["key"] == "k"
    limits = {"rate_limits": [{"calls": 100_000, "key": "user", "renewal_period": "minute"}]}
    assert client.update_endpoint_rate_limits(NAME, limits)["rate_limits"][0]["calls"] == 100_000
    gateway = {"usage_tracking_config": {"enabled": True}}
    assert client.update_endpoint_ai_gateway(NAME, gateway)["usage_tracking_config"]["enabled"] is True
    assert client.delete_endpoint(NAME) == {}
    with pytest.raises(HTTPError, match="not found"):
        client.get_endpoint(NAME)


@pytest.mark.parametrize("spelling", ["new", "old"])
def test_both_ways_to_call_create(wye: Wye, client: BaseDeploymentClient, spelling: str) -> None:
    """The whole request as a dict, and a name beside a config in the old spelling, as examples on the web have it."""
    served: dict[str, Any] = {"model_name": "linear", "model_version": "3", "workload_size": "Small"}
    body = {"served_models": [{**served, "scale_to_zero_enabled": False}]}
    name = f"{NAME}-{spelling}"
    if spelling == "new":
        client.create_endpoint(config={"name": name, "config": body})
    else:
        client.create_endpoint(name, body)
    assert wye.settled(name)["state"]["ready"] == "READY"
    assert client.predict(endpoint=name, inputs=EXAMPLE)["predictions"] == [pytest.approx(63.0)]
    client.delete_endpoint(name)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda client: client.get_endpoint("nobody"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda client: client.predict(endpoint="nobody", inputs=EXAMPLE), "RESOURCE_DOES_NOT_EXIST"),
        (lambda client: client.create_endpoint("a b", {}), "INVALID_PARAMETER_VALUE"),
        (
            lambda client: client.create_endpoint(
                "ghost", {"served_entities": [{"entity_name": "ghost", "entity_version": "1"}]}
            ),
            "RESOURCE_DOES_NOT_EXIST",
        ),
    ],
)
def test_errors_keep_their_code(client: BaseDeploymentClient, call: Any, code: str) -> None:
    """MLflow raises the HTTP error with Wye's words in it, and the answer with its code beside."""
    with pytest.raises(HTTPError, match=r"4\d\d Client Error: \w+") as caught:
        call(client)
    assert caught.value.response.json()["error_code"] == code


def test_answers_can_come_piece_by_piece(wye: Wye, client: BaseDeploymentClient) -> None:
    """predict_stream yields what the model yields, and predict gets it all at once."""
    name = f"{NAME}-streams"
    wye.create(name, {"served_entities": [{"entity_name": "counter", "entity_version": "1"}]})
    body = {"dataframe_records": [{"x": 1}]}
    assert list(client.predict_stream(endpoint=name, inputs=body)) == [{"number": number} for number in range(3)]
    assert client.predict(endpoint=name, inputs=body)["predictions"] == [0, 1, 2]
    client.delete_endpoint(name)
