"""`wye query`."""

import json

import pytest

PATH = "/serving-endpoints/multi-model/invocations"
BODY = '{"dataframe_records": [{"x": 1.0}]}'


def test_predictions_and_the_model_that_answered(run, server):
    """People see which served model answered, then one prediction a line."""
    result = run("query", "multi-model", "--data", BODY)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == 'answered by current\n1.5\n{"label": "ü"}\n'
    (request,) = server.requests
    assert (request.method, request.path, request.body.decode()) == ("POST", PATH, BODY)
    assert request.headers["content-type"] == "application/json"


def test_json_is_the_answer_alone(run):
    """`-o json` prints the model's answer and nothing else."""
    result = run("query", "multi-model", "--data", BODY, "-o", "json")
    assert json.loads(result.stdout) == {"predictions": [1.5, {"label": "ü"}]}


def test_one_served_model_can_be_asked(run, server):
    """--model goes round the split."""
    result = run("query", "multi-model", "--model", "challenger", "--data", BODY)
    assert result.stdout.startswith("answered by challenger\n")
    assert server.requests[0].path == "/serving-endpoints/multi-model/served-models/challenger/invocations"


@pytest.mark.parametrize(
    ("file", "content_type"),
    [("r.json", "application/json"), ("r.CSV", "text/csv"), ("r", "application/json"), ("-", "application/json")],
)
def test_the_body_comes_from_a_file_or_standard_input(run, server, tmp_path, file, content_type):
    """The bytes are sent as they are; the file's name tells the content type."""
    content = b'{"inputs": ["\xc3\xbc"]}'
    if file != "-":
        (tmp_path / file).write_bytes(content)
    result = run("query", "multi-model", file, input=content)
    assert result.exit_code == 0, result.stderr
    assert (server.requests[0].body, server.requests[0].headers["content-type"]) == (content, content_type)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "give the request body"),
        (("-", "--data", "{}"), "one of them"),
        (("--data", " "), "the request body is empty"),
        (("-",), "the request body is empty"),
        (("absent.json",), "absent.json"),
        (("--data", "{}", "--timeout", "0"), "x>0"),
    ],
)
def test_without_a_body_nothing_is_sent(run, server, args, words):
    """A missing, double or empty body is exit code 2 and says how to give one."""
    result = run("query", "multi-model", *args, input="")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert server.requests == []


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"predictions": []}', "\n"),
        (b'{"predictions": {"a": [1]}}', '{\n  "a": [\n    1\n  ]\n}\n'),
        (b'{"choices": [1]}', '{\n  "choices": [\n    1\n  ]\n}\n'),
        (b'{"predictions": ["\\ud800 \\u001b[31m [bold]"]}', '"\\ud800 \\u001b[31m [bold]"\n'),
    ],
)
def test_answers_of_other_shapes(run, server, answers, body, shown):
    """Answers that are no list of predictions are printed whole; a missing model name is not made up."""
    server.script("POST", PATH, answers.Answer(body=body))
    result = run("query", "multi-model", "--data", BODY)
    assert (result.exit_code, result.stdout) == (0, shown)


def test_lone_surrogates_stay_valid_json(run, server, answers):
    """What no encoding can carry is escaped, so that the output stays JSON."""
    server.script("POST", PATH, answers.Answer(body=b'{"predictions": ["\\ud800\xc3\xbc"]}'))
    result = run("query", "multi-model", "--data", BODY, "-o", "json")
    assert json.loads(result.stdout) == {"predictions": ["\ud800ü"]}


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "BAD_REQUEST"), (401, "UNAUTHENTICATED"), (429, "REQUEST_LIMIT_EXCEEDED"), (503, "TEMPORARILY_UNAVAILABLE")],
)
def test_a_models_refusal_ends_with_1(run, server, answers, status, code):
    """Errors of the model and of the gateway are shown in their own words."""
    server.script("POST", PATH, answers.error(status, code, "Model is missing inputs ['x']."))
    result = run("query", "multi-model", "--data", BODY)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: Model is missing inputs ['x']. ({code})\n"
