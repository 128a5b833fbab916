"""`wye load`: its arguments, what it asks, and what it says when it cannot."""

import json

import pytest

EXAMPLE = {"dataframe_records": [{"x": 1.0}]}
OPENAPI = "/api/2.0/serving-endpoints/multi-model/openapi"


@pytest.fixture
def described(server, answers):
    """The stub describes its models, with an example of the first and none of the second."""

    def body(example):
        content = {"schema": {}} if example is None else {"schema": {}, "example": example}
        return {"post": {"requestBody": {"content": {"application/json": content}}}}

    paths = {"/served-models/current/invocations": body(EXAMPLE), "/served-models/challenger/invocations": body(None)}
    for _ in range(2):
        server.script("GET", OPENAPI, answers.Answer(200, json.dumps({"paths": paths}).encode()))
    return server


def test_the_input_example_is_sent_when_no_body_is_given(run, described):
    """By the split, with the token; the report names who answered."""
    done = run("load", "multi-model", "-d", "200ms", "-c", "2", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["failed"] == 0
    assert report["succeeded"] > 0
    assert report["models"][0]["name"] == "current"
    asked = [each for each in described.requests if each.path == "/serving-endpoints/multi-model/invocations"]
    assert len(asked) == report["sent"]
    assert {json.dumps(each.json) for each in asked} == {json.dumps(EXAMPLE)}


def test_a_body_from_a_file_a_model_and_a_page(run, server, tmp_path):
    """Straight to one model, with what the file holds; the page is written."""
    (tmp_path / "body.csv").write_text("x\n1\n")
    done = run(
        "load", "multi-model", "-m", "challenger", "-r", "50", "-d", "200ms", "-f", "body.csv", "--html", "r.html"
    )
    assert done.exit_code == 0, done.output
    assert "10 requests: 10 answered, 0 failed" in done.stdout
    asked = [each for each in server.requests if each.path.endswith("/served-models/challenger/invocations")]
    assert len(asked) == 11  # one to see that it works
    assert {(each.body, each.headers["content-type"]) for each in asked} == {(b"x\n1\n", "text/csv")}
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_two_models_are_asked_equally_often(run, server, tmp_path):
    """And a verdict is given."""
    (tmp_path / "body.json").write_text("{}")
    done = run(
        "load", "multi-model", "--compare", "current", "challenger", "-r", "100", "-d", "200ms", "-f", "body.json"
    )
    assert done.exit_code == 0, done.output
    assert "Too few answers" in done.stdout
    asked = [each.path.split("/")[4] for each in server.requests if "/served-models/" in each.path]
    assert (asked.count("current"), asked.count("challenger")) == (11, 11)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nothing"], 3, "Serving endpoint with name nothing not found"),
        (["multi-model", "-m", "nobody", "-f", "-"], 3, "Served model nobody not found"),
        (["multi-model", "-f", "missing.json"], 2, "missing.json"),
        (["multi-model", "-d", "soon"], 2, "'soon' is not a time from 100ms to 24h"),
        (["multi-model", "-d", "0s"], 2, "is not a time"),
        (["multi-model", "-r", "0"], 2, "range"),
        (["multi-model", "-c", "0"], 2, "range"),
        (["multi-model", "--compare", "a", "a"], 2, "two different served models"),
        (["multi-model", "--compare", "a", "b", "-m", "a"], 2, "exclude each other"),
        (["multi-model", "--html", "no/such/r.html"], 2, "there is no directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_is_loaded(run, server, arguments, code, words):
    """With the exit code that `wye --help` gives it."""
    done = run("load", *arguments, input="{}")
    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output
    assert len([each for each in server.requests if "invocations" in each.path]) <= 1


def test_a_model_without_an_example_needs_a_body(run, described):
    """And says how to give one."""
    done = run("load", "multi-model", "-m", "challenger", "-d", "100ms")
    assert done.exit_code == 2
    assert "challenger has no input example to ask with; give a request body with --file" in done.stderr
    unknown = run("load", "multi-model", "-m", "nobody", "-d", "100ms")
    assert unknown.exit_code == 3
    assert "multi-model has no served model nobody" in unknown.stderr


def test_a_caller_without_permission_is_told_so(run, server, answers):
    """In the server's words, before the load."""
    refused = answers.error(403, "PERMISSION_DENIED", "User u does not have CAN_QUERY")
    server.script("POST", "/serving-endpoints/multi-model/served-models/current/invocations", refused)
    done = run("load", "multi-model", "-f", "-", input="{}")
    assert done.exit_code == 1
    assert "User u does not have CAN_QUERY (PERMISSION_DENIED)" in done.stderr
