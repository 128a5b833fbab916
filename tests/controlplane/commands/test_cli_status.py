"""`wye status`, once and watching."""

import json

import pytest

from controlplane.commands.failures import Missing
from controlplane.commands.session import Session
from controlplane.commands.status import looks

API = "/api/2.0/serving-endpoints"
TOKEN = "secret-token"


def cells(result):
    """The words of each line."""
    return [line.split() for line in result.stdout.splitlines()]


def test_one_row_for_each_entity(run, server):
    """Everything that is served, with weights and states; every row is whole, for grep and awk."""
    server.add("zero", [{"name": "m", "entity_name": "n", "entity_version": "2"}])
    server.endpoints["zero"]["config"]["served_entities"][0]["state"]["deployment_state_message"] = "Scaled\n to zero"
    result = run("status")
    assert result.exit_code == 0
    assert cells(result) == [
        ["ENDPOINT", "READY", "UPDATE", "CONFIG", "ENTITY", "MODEL", "TRAFFIC", "DEPLOYMENT", "MESSAGE"],
        ["multi-model", "READY", "NOT_UPDATING", "1", "current", "model-A", "1", "90%", "READY"],
        ["multi-model", "READY", "NOT_UPDATING", "1", "challenger", "model-B", "1", "10%", "READY"],
        ["zero", "READY", "NOT_UPDATING", "1", "m", "n", "2", "100%", "READY", "Scaled", "to", "zero"],
    ]


def test_a_worker_host_that_is_away_is_told(run, server, answers):
    """Beside the table, for people; who may not ask, and who asks for JSON, is told nothing of it."""
    away = json.dumps({"worker_host": {"connected": False}}).encode()
    server.script("GET", "/api/2.0/wye/status", answers.Answer(body=away))
    assert run("status").stderr.startswith("The worker host is out of reach")
    assert run("status", "-o", "json").stderr == ""


def test_one_endpoint(run, server):
    """A name asks for that endpoint alone."""
    server.add("other", [{"name": "m", "entity_name": "n", "entity_version": "2"}])
    assert "other" not in run("status", "multi-model").stdout
    assert json.loads(run("status", "other", "-o", "json").stdout)["name"] == "other"


def test_the_pending_config_is_shown_beside_the_active_one(run, server):
    """During an update both versions are there; after a failed one the pending rows say so."""
    server.polls = None
    run("endpoints", "update", "multi-model", "--entity", "a=b:3", "--no-wait")
    updating = run("status", "multi-model")
    assert "1          current     model-A 1  90%      READY\n" in updating.stdout
    assert "2 pending  a           b 3        100%     CREATING    Loading the model" in updating.stdout
    server.polls, server.failure = 1, "boom"
    run("status", "multi-model")
    assert "2 failed  a           b 3        100%     FAILED      boom" in run("status", "multi-model").stdout


def test_an_endpoint_without_a_config_has_a_row(run):
    """An empty endpoint is listed, not lost."""
    run("endpoints", "create", "empty")
    assert ["empty", "NOT_READY", "NOT_UPDATING"] in cells(run("status"))


def test_a_list_of_summaries_is_completed(run, server, answers):
    """Where the API's list leaves weights and states out, the endpoints are asked for; one deleted meanwhile is left out."""
    run("endpoints", "create", "empty")
    server.add("fleeting", [{"name": "m", "entity_name": "n", "entity_version": "2"}])
    full = run("status", "-o", "json").stdout
    server.summarise = True
    server.requests.clear()
    assert run("status", "-o", "json").stdout == full
    assert len(server.requests) == 3
    listed = json.dumps({"endpoints": [server.summary(each) for each in server.endpoints.values()]}).encode()
    del server.endpoints["fleeting"]
    server.script("GET", API, answers.Answer(body=listed))
    assert "fleeting" not in run("status").stdout


def test_a_long_list_of_summaries_is_not(run, server):
    """Beyond 200 endpoints one request answers, with what the list has."""
    server.summarise = True
    for number in range(200):
        server.add(f"e{number}", [{"name": "m", "entity_name": "n", "entity_version": "2"}])
    server.requests.clear()
    result = run("status")
    assert [each.path for each in server.requests if each.path.startswith(API)] == [API]
    assert len(result.stdout.splitlines()) == 1 + 2 + 200


def test_no_endpoints(run, server):
    """Nothing to show is nothing on standard output, and success."""
    server.endpoints.clear()
    result = run("status")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "There are no endpoints.\n")


def test_looks_survive_an_absence(server, tmp_path, answers):
    """A Wye that is away, unavailable or not itself is looked for again, and the last answer stays."""
    seen = looks(Session(server.url, TOKEN, tmp_path, as_json=False), "multi-model", lambda: None)
    first = next(seen)
    assert (first.answer["name"], first.trouble) == ("multi-model", "")
    server.stop()
    away = next(seen)
    assert away.answer == first.answer
    assert "cannot reach Wye" in away.trouble
    server.start()
    assert next(seen) == first
    server.script("GET", f"{API}/multi-model", answers.error(503, "TEMPORARILY_UNAVAILABLE", "Restarting."))
    assert "Restarting." in next(seen).trouble
    server.script("GET", f"{API}/multi-model", answers.Answer(200, b"<html>", "text/html"))
    assert "does not answer as Wye does" in next(seen).trouble
    assert next(seen) == first
    seen.close()


def test_looks_find_a_wye_that_moved(server, tmp_path):
    """A Wye restarted on another port is found through its state directory, even if none was there at first."""
    seen = looks(Session(None, None, tmp_path, as_json=False), None, lambda: None)
    assert "no running Wye found" in next(seen).trouble
    record = tmp_path / "wye.json"
    record.write_text(json.dumps({"url": server.url, "token": TOKEN}))
    assert next(seen).trouble == ""
    server.stop()
    server.port = 0
    server.start()
    assert "cannot reach Wye" in next(seen).trouble
    record.write_text(json.dumps({"url": server.url, "token": TOKEN}))
    assert next(seen).trouble == ""
    seen.close()


def test_looks_end_with_what_will_not_pass(server, tmp_path):
    """An endpoint that does not exist ends the watching."""
    seen = looks(Session(server.url, TOKEN, tmp_path, as_json=False), "nobody", lambda: None)
    with pytest.raises(Missing):
        next(seen)


def test_watch_of_nothing_ends_with_3(run):
    """The exit code is the same as without --watch."""
    assert run("status", "nobody", "--watch").exit_code == 3
