"""`wye split`."""

import json

import pytest

API = "/api/2.0/serving-endpoints"


def put(server):
    """The body of the one PUT."""
    (request,) = [each for each in server.requests if each.method == "PUT"]
    assert request.path == f"{API}/multi-model/config"
    return request.json


def routes(request):
    """Percentages by name."""
    return {route["served_model_name"]: route["traffic_percentage"] for route in request["traffic_config"]["routes"]}


def test_split_sends_the_same_entities_with_other_percentages(run, server):
    """The active config's entities go back as they were asked for, without what the server had added."""
    result = run("split", "multi-model", "current=50", "challenger=50")
    assert result.exit_code == 0, result.stderr
    request = put(server)
    assert request["served_entities"] == [
        {"workload_size": "Small", "name": "current", "entity_name": "model-A", "entity_version": "1"},
        {"workload_size": "Small", "name": "challenger", "entity_name": "model-B", "entity_version": "1"},
    ]
    assert routes(request) == {"current": 50, "challenger": 50}
    assert set(request) == {"served_entities", "traffic_config"}
    assert "challenger  model-B 1  50%" in result.stdout


def test_an_entity_that_is_not_named_gets_nothing(run, server):
    """`current=100` moves all traffic there and keeps the other one deployed at 0."""
    assert run("split", "multi-model", "current=100").exit_code == 0
    assert routes(put(server)) == {"current": 100, "challenger": 0}


def test_settings_of_entities_survive(run, server):
    """Sizes, environment variables and capture settings are part of what is sent again."""
    config = server.endpoints["multi-model"]["config"]
    config["served_entities"][0].update(environment_vars={"A": "{{secrets/s/k}}"}, scale_to_zero_enabled=True)
    config["auto_capture_config"] = {"catalog_name": "c", "enabled": True, "state": {"payload_table": {}}}
    assert run("split", "multi-model", "current=100").exit_code == 0
    request = put(server)
    assert request["served_entities"][0]["environment_vars"] == {"A": "{{secrets/s/k}}"}
    assert request["served_entities"][0]["scale_to_zero_enabled"] is True
    assert request["auto_capture_config"] == {"catalog_name": "c", "enabled": True}


@pytest.mark.parametrize("shares", [("current=90", "challenger=20"), ("current=90",), ("current=0", "challenger=0")])
def test_a_sum_other_than_100_is_the_servers_to_refuse(run, server, shares):
    """The server says what the sum is; the endpoint stays as it was, and the exit code is 1."""
    before = json.dumps(server.endpoints)
    result = run("split", "multi-model", *shares)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "must add up to 100, not" in result.stderr
    assert "(INVALID_PARAMETER_VALUE)" in result.stderr
    assert json.dumps(server.endpoints) == before


def test_an_unknown_entity_is_the_servers_to_refuse(run, server, answers):
    """A name that no entity has is sent, and the server's answer shown."""
    server.script("PUT", f"{API}/multi-model/config", answers.error(400, "INVALID_PARAMETER_VALUE", "No entity tpyo."))
    result = run("split", "multi-model", "tpyo=100")
    assert (result.exit_code, result.stderr) == (1, "Error: No entity tpyo. (INVALID_PARAMETER_VALUE)\n")
    assert routes(put(server)) == {"current": 0, "challenger": 0, "tpyo": 100}


def test_an_endpoint_that_serves_nothing_cannot_be_split(run, server):
    """Without an active config there is nothing to send again; nothing is sent."""
    del server.endpoints["multi-model"]["config"]
    result = run("split", "multi-model", "current=100")
    assert result.exit_code == 1
    assert "multi-model serves nothing yet" in result.stderr
    assert [each.method for each in server.requests] == ["GET"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("multi-model",), "Missing argument"),
        (("multi-model", "current"), "name=percent"),
        (("multi-model", "current=-1"), "whole number"),
        (("multi-model", "current=1e2"), "whole number"),
        (("multi-model", "current=٩٠"), "whole number"),
        (("multi-model", "current=1", "current=99"), "given twice"),
    ],
)
def test_wrong_shares_end_with_2(run, server, args, words):
    """What is no percentage is refused before anything is sent."""
    result = run("split", *args)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert server.requests == []
