"""`wye endpoints …` against a server over real HTTP."""

import json

import pytest

API = "/api/2.0/serving-endpoints"


def sent(server, method):
    """Path and body of the one request with that method."""
    (request,) = [each for each in server.requests if each.method == method]
    return request.path, request.json


def test_list_shows_a_row_for_each_endpoint(run, server):
    """People get one line an endpoint, sorted by name, with what it serves."""
    server.add("a-first", [{"name": "only", "entity_name": "churn", "entity_version": "3"}])
    result = run("endpoints", "list")
    assert result.exit_code == 0
    header, first, second = result.stdout.splitlines()
    assert header.split() == ["NAME", "READY", "UPDATE", "SERVED", "ENTITIES"]
    assert first.split() == ["a-first", "READY", "NOT_UPDATING", "only", "(churn", "3)"]
    assert second.endswith("current (model-A 1), challenger (model-B 1)")


def test_list_prints_the_api_json(run, server):
    """Scripts get what the API answered and nothing else."""
    result = run("endpoints", "list", "-o", "json")
    assert json.loads(result.stdout) == {"endpoints": list(server.endpoints.values())}
    assert result.stderr == ""


@pytest.mark.parametrize("body", [b"{}", b'{"endpoints": []}'])
def test_an_empty_list_is_no_output(run, server, answers, body):
    """No endpoints: nothing on standard output, a hint beside it, and success."""
    server.script("GET", API, answers.Answer(body=body))
    result = run("endpoints", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no endpoints" in result.stderr


def test_get_shows_details_and_entities(run, server):
    """The endpoint's own fields come first, then its entities with weights and states."""
    server.endpoints["multi-model"].update(tags=[{"key": "team", "value": "risk"}], description="Two models.")
    result = run("endpoints", "get", "multi-model")
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "ENDPOINT multi-model" in lines
    assert "creator me@corp.example" in lines
    assert "created 2025-02-18 17:33:20 UTC" in lines
    assert "description Two models." in lines
    assert "tags team=risk" in lines
    assert "multi-model READY NOT_UPDATING 1 challenger model-B 1 10% READY" in lines


def test_get_prints_the_api_json(run, server):
    """`-o json` is the API's answer."""
    assert json.loads(run("endpoints", "get", "multi-model", "-o", "json").stdout) == server.endpoints["multi-model"]


@pytest.mark.parametrize(
    "command",
    [
        ("endpoints", "get", "nobody"),
        ("endpoints", "update", "nobody", "--entity", "a=b:1"),
        ("endpoints", "delete", "nobody", "--yes"),
        ("split", "nobody", "a=100"),
        ("query", "nobody", "--data", "{}"),
        ("query", "multi-model", "--model", "nobody", "--data", "{}"),
        ("status", "nobody"),
    ],
)
@pytest.mark.parametrize("output", ["table", "json"])
def test_what_does_not_exist_ends_with_3(run, command, output):
    """A missing endpoint or served model is exit code 3, in the server's words, and leaves standard output empty."""
    result = run(*command, "-o", output)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Error: Serv")
    assert result.stderr.endswith(" nobody not found (RESOURCE_DOES_NOT_EXIST)\n")


def test_create_from_flags(run, server):
    """Flags become the request of the API, percentages as numbers; the table shows what became of it."""
    result = run(
        "endpoints",
        "create",
        "new",
        "--entity",
        "a=churn:3",
        "--entity",
        "b=cat.schema.churn:4",
        "--traffic",
        "a=60",
        "--traffic",
        "b=40%",
    )
    assert result.exit_code == 0, result.stderr
    assert sent(server, "POST") == (
        API,
        {
            "name": "new",
            "config": {
                "served_entities": [
                    {"name": "a", "entity_name": "churn", "entity_version": "3"},
                    {"name": "b", "entity_name": "cat.schema.churn", "entity_version": "4"},
                ],
                "traffic_config": {
                    "routes": [
                        {"served_model_name": "a", "traffic_percentage": 60},
                        {"served_model_name": "b", "traffic_percentage": 40},
                    ]
                },
            },
        },
    )
    assert "cat.schema.churn 4  40%" in result.stdout


def test_an_entity_without_a_name_is_named_by_the_server(run, server):
    """`--entity model:version` leaves the name out, and without --traffic the split too."""
    assert run("endpoints", "create", "new", "--entity", "churn:3").exit_code == 0
    config = {"served_entities": [{"entity_name": "churn", "entity_version": "3"}]}
    assert sent(server, "POST")[1] == {"name": "new", "config": config}


def test_create_without_anything_makes_an_empty_endpoint(run, server):
    """The API allows an endpoint without a config, so the command does."""
    result = run("endpoints", "create", "new")
    assert result.exit_code == 0
    assert sent(server, "POST")[1] == {"name": "new"}
    assert result.stdout.splitlines()[1].split() == ["new", "NOT_READY", "NOT_UPDATING"]


def test_create_a_name_that_is_taken_ends_with_1(run):
    """A refusal is exit code 1 and the server's message with its code."""
    result = run("endpoints", "create", "multi-model", "--entity", "a=b:1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: Endpoint multi-model exists (RESOURCE_ALREADY_EXISTS)\n"


YAML = """
served_entities:
  - {name: a, entity_name: churn, entity_version: "3"}
"""


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.yaml", YAML),
        (
            "config.json",
            json.dumps({"served_entities": [{"name": "a", "entity_name": "churn", "entity_version": "3"}]}),
        ),
        ("request.yaml", "name: new\nconfig:\n  served_entities: [{name: a, entity_name: churn, entity_version: '3'}]"),
        ("-", '{"config": {"served_entities": [{"name": "a", "entity_name": "churn", "entity_version": "3"}]}}'),
        ("-", YAML),
    ],
)
def test_create_from_a_file(run, server, tmp_path, file, text):
    """A config or a whole request, JSON or YAML, file or standard input, is the same request."""
    if file != "-":
        (tmp_path / file).write_text(text)
    result = run("endpoints", "create", "new", "-f", file, input=text)
    assert result.exit_code == 0, result.stderr
    config = {"served_entities": [{"name": "a", "entity_name": "churn", "entity_version": "3"}]}
    assert sent(server, "POST")[1] == {"name": "new", "config": config}


def test_what_get_printed_can_be_sent_back(run, server):
    """`get -o json` edited and given to `update -f` asks for the edited config and nothing the server had added."""
    printed = run("endpoints", "get", "multi-model", "-o", "json").stdout
    result = run(
        "endpoints",
        "update",
        "multi-model",
        "-f",
        "-",
        input=printed.replace('"entity_version": "1"', '"entity_version": "2"'),
    )
    assert result.exit_code == 0, result.stderr
    assert sent(server, "PUT") == (
        f"{API}/multi-model/config",
        {
            "served_entities": [
                {"workload_size": "Small", "name": "current", "entity_name": "model-A", "entity_version": "2"},
                {"workload_size": "Small", "name": "challenger", "entity_name": "model-B", "entity_version": "2"},
            ],
            "traffic_config": {
                "routes": [
                    {"served_model_name": "current", "traffic_percentage": 90},
                    {"served_model_name": "challenger", "traffic_percentage": 10},
                ]
            },
        },
    )
    assert result.stderr == ""


def test_update_says_what_it_cannot_send(run, server):
    """A whole create request works for `update`; the fields an update has no place for are named, not dropped in silence."""
    document = {
        "config": {"served_entities": [{"entity_name": "churn", "entity_version": "3"}]},
        "tags": [{"key": "a"}],
    }
    result = run("endpoints", "update", "multi-model", "-f", "-", input=json.dumps(document))
    assert result.exit_code == 0
    assert sent(server, "PUT")[1] == document["config"]
    assert "not sent: tags" in result.stderr


@pytest.mark.parametrize(
    ("args", "text", "words"),
    [
        (("create", "n", "--entity", "churn"), None, "name=model:version"),
        (("create", "n", "--entity", "=churn:3"), None, "name=model:version"),
        (("create", "n", "--entity", "a=churn:"), None, "name=model:version"),
        (("create", "n", "--entity", "a=b:1", "--traffic", "a=half"), None, "whole number"),
        (("create", "n", "--entity", "a=b:1", "--traffic", "a=12.5"), None, "whole number"),
        (("create", "n", "--entity", "a=b:1", "--traffic", "100"), None, "name=percent"),
        (("create", "n", "--entity", "a=b:1", "--traffic", "a=1", "--traffic", "a=99"), None, "a is given twice"),
        (("create", "n", "--entity", "a=b:1", "-f", "-"), "{}", "not both"),
        (("create", "n", "-f", "-"), '{\n "config": }', "standard input, line 2, column 12"),
        (("create", "n", "-f", "-"), "a: [", "not YAML"),
        (("create", "n", "-f", "-"), "- a", "an object"),
        (("create", "n", "-f", "-"), "", "an object"),
        (("create", "n", "-f", "-"), b"\xff\xfe", "not UTF-8"),
        (("create", "n", "-f", "-"), '{"name": "other"}', "for the endpoint 'other', not for 'n'"),
        (("update", "n", "-f", "-"), '{"name": "other", "config": {}}', "for the endpoint 'other', not for 'n'"),
        (("create", "n", "-f", "nothing.json"), None, "nothing.json"),
        (("update", "n"), None, "wye split"),
        (("update", "n", "--traffic", "a=100"), None, "wye split"),
        (("get", ""), None, "cannot be the name"),
        (("delete", "..", "--yes"), None, "cannot be the name"),
        (("list", "-o", "xml"), None, "xml"),
        (("get",), None, "NAME"),
        (("frobnicate",), None, "No such command"),
    ],
)
def test_wrong_command_lines_end_with_2_and_send_nothing(run, server, args, text, words):
    """What cannot be a request is refused before anything is sent, with words that say what to change."""
    result = run("endpoints", *args, input=text)
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.stderr.split())
    assert server.requests == []
    assert result.stdout == ""


def test_delete_asks_first(run, server):
    """Without --yes the user is asked on standard error, and only a yes deletes."""
    refused = run("endpoints", "delete", "multi-model", input="n\n")
    assert refused.exit_code == 1
    assert "multi-model was not deleted" in refused.stderr
    assert "multi-model" in server.endpoints
    agreed = run("endpoints", "delete", "multi-model", input="y\n")
    assert (agreed.exit_code, agreed.stdout) == (0, "Deleted multi-model.\n")
    assert server.endpoints == {}


def test_delete_without_anybody_to_ask(run, server):
    """A script that forgot --yes is told so, and nothing is deleted."""
    result = run("endpoints", "delete", "multi-model", input="")
    assert result.exit_code == 1
    assert "give --yes" in result.stderr
    assert "multi-model" in server.endpoints


def test_delete_as_json(run):
    """`-o json` prints the API's empty object."""
    result = run("endpoints", "delete", "multi-model", "--yes", "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {})


def test_names_are_escaped_in_urls(run, server):
    """Whatever characters a name has, it stays one segment of the path."""
    result = run("endpoints", "get", "a/b?c=ü#d")
    assert result.exit_code == 3
    assert server.requests[0].path == f"{API}/a%2Fb%3Fc%3D%C3%BC%23d"


HOSTILE = "[red]:boom:[/red] [link=http://x]y[/link] \x1b[31mESC\x07 \u202eRTL 模型"


def test_markup_and_control_characters_are_shown_not_obeyed(run, server):
    """Text from the server is no markup, no emoji code and no terminal command; Unicode letters stay as they are."""
    server.add("odd", [{"name": "m", "entity_name": HOSTILE, "entity_version": "1"}])
    for command in (("endpoints", "list"), ("endpoints", "get", "odd"), ("status",)):
        result = run(*command)
        assert result.exit_code == 0
        assert "[red]:boom:[/red] [link=http://x]y[/link] \\x1b[31mESC\\x07 \\u202eRTL 模型" in result.stdout
        assert "\x1b" not in result.stdout


def test_json_keeps_every_character(run, server):
    """JSON output carries hostile and Unicode text unchanged, escaped as JSON does."""
    server.add("odd", [{"name": "m", "entity_name": HOSTILE, "entity_version": "1"}])
    result = run("endpoints", "get", "odd", "-o", "json")
    assert json.loads(result.stdout)["config"]["served_entities"][0]["entity_name"] == HOSTILE
    assert "模型" in result.stdout


def test_error_messages_are_cleaned_too(run, server, answers):
    """A server's error cannot drive the terminal either."""
    server.script("GET", f"{API}/x", answers.error(400, "BAD_REQUEST", "no \x1b[2J [bold]"))
    assert run("endpoints", "get", "x").stderr == "Error: no \\x1b[2J [bold] (BAD_REQUEST)\n"


def test_odd_shapes_are_blank_cells(run, server, answers):
    """JSON of an unexpected shape is shown as far as it is understood, without a traceback."""
    body = {
        "endpoints": [
            {},
            7,
            {"name": None, "state": "odd", "config": []},
            {"name": "n", "config": {"served_entities": {"a": 1}, "traffic_config": {"routes": [None]}}},
        ]
    }
    for command in (("endpoints", "list"), ("status",)):
        server.script("GET", API, answers.Answer(body=json.dumps(body).encode()))
        result = run(*command)
        assert result.exit_code == 0, result.exception
        assert "n" in result.stdout.split()
