"""Finding Wye, and what is said when it is not there or not itself."""

import json
import socket

import pytest

from controlplane.commands.connection import Connection, resolve

API = "/api/2.0/serving-endpoints"
TOKEN = "secret-token"


@pytest.fixture
def recorded(tmp_path):
    """Writes a `wye.json` as `wye up` does and answers its state directory."""

    def write(content, directory=".wye"):
        (tmp_path / directory).mkdir(exist_ok=True)
        (tmp_path / directory / "wye.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path / directory

    return write


def test_the_state_directory_tells_where_wye_is(run_bare, server, recorded):
    """In the directory where `wye up` runs, no option is needed."""
    recorded({"url": server.url, "token": TOKEN, "pids": {}})
    assert run_bare("endpoints", "list").exit_code == 0


@pytest.mark.parametrize("args", [("--state-dir", "elsewhere"), ()])
def test_another_state_directory(run_bare, server, recorded, args):
    """--state-dir and WYE_STATE_DIR name another one."""
    recorded({"url": server.url, "token": TOKEN}, "elsewhere")
    assert run_bare("endpoints", "list", *args, env={} if args else {"WYE_STATE_DIR": "elsewhere"}).exit_code == 0


def test_flags_win_over_the_environment_and_the_environment_over_the_file(run_bare, server, recorded):
    """The nearest word counts."""
    recorded({"url": "http://127.0.0.1:1", "token": "no"})
    wrong = {"WYE_URL": "http://127.0.0.1:1", "WYE_TOKEN": "no"}
    assert run_bare("endpoints", "list", "--url", server.url + "/", "--token", TOKEN, env=wrong).exit_code == 0
    assert run_bare("endpoints", "list", env={"WYE_URL": server.url, "WYE_TOKEN": TOKEN}).exit_code == 0


def test_a_recorded_token_is_not_sent_to_another_url(run_bare, server, recorded):
    """--url alone uses the recorded token for the recorded URL only."""
    recorded({"url": server.url, "token": TOKEN})
    assert run_bare("endpoints", "list", "--url", server.url).exit_code == 0
    recorded({"url": "http://127.0.0.1:1", "token": TOKEN})
    result = run_bare("endpoints", "list", "--url", server.url)
    assert (result.exit_code, result.stderr) == (1, "Error: Send a token. (UNAUTHENTICATED)\n")
    assert "authorization" not in server.requests[-1].headers


def test_no_token_is_no_header(run_bare, server, recorded, answers):
    """A Wye that runs without authentication records none, and none is sent."""
    recorded({"url": server.url, "token": None})
    server.script("GET", API, answers.Answer())
    assert run_bare("endpoints", "list").exit_code == 0
    assert "authorization" not in server.requests[-1].headers


def test_no_wye_at_all_ends_with_4(run_bare):
    """Without any hint the message says what to do."""
    for command in (("endpoints", "list"), ("status",), ("split", "a", "b=1"), ("query", "a", "--data", "{}")):
        result = run_bare(*command)
        assert (result.exit_code, result.stdout) == (4, "")
        assert result.stderr == "Error: no running Wye found: start one with `wye up`, or give --url and --token\n"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"url": 7}',
        '{"url": "ftp://x"}',
        '{"url": "http://x", "token": 7}',
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
def test_a_broken_record_ends_with_4(run_bare, recorded, content):
    """A wye.json that is not what `wye up` writes is named, and the way round it too."""
    recorded(content)
    result = run_bare("endpoints", "list")
    assert result.exit_code == 4
    assert "wye.json" in result.stderr
    assert "--url and --token" in result.stderr
    assert "Traceback" not in result.stderr


def test_nobody_listens(run_bare, recorded):
    """A Wye that is gone without removing its record is told apart from one that was never started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    recorded({"url": url, "token": TOKEN})
    result = run_bare("endpoints", "list")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith(
        f"Error: cannot reach Wye at {url} (from .wye/wye.json; is `wye up` still running?)"
    )


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8080",
        "",
        "http://",
        "ftp://x",
        "http://a b",
        "http://x:port",
        "http://x/?q",
        "http://[::1",
        "http://x:0",
    ],
)
def test_what_is_no_url_ends_with_2(run_bare, url):
    """A URL that cannot be one is a usage error (an empty one counts as not given)."""
    result = run_bare("endpoints", "list", "--url", url)
    assert result.exit_code == (2 if url else 4)
    assert ("looks like http://localhost:8080" in result.stderr) == bool(url)


@pytest.mark.parametrize("token", ["a b", "a\nb", "ü"])
def test_what_is_no_token_ends_with_2(run_bare, token):
    """A token that no header can carry is a usage error, and is not repeated in the message."""
    result = run_bare("endpoints", "list", "--url", "http://127.0.0.1:1", "--token", token)
    assert result.exit_code == 2
    assert "copied whole" in result.stderr
    assert token not in result.stderr


def test_a_wrong_token_ends_with_1(run, server):
    """The server refuses, in its own words."""
    result = run("endpoints", "list", "--token", "wrong")
    assert (result.exit_code, result.stderr) == (1, "Error: Send a token. (UNAUTHENTICATED)\n")


@pytest.mark.parametrize(
    ("status", "body", "content_type", "words"),
    [
        (
            200,
            b"<html><b>hi</b></html>",
            "text/html; charset=utf-8",
            "status 200 and a body (text/html) that begins '<html><b>hi</b></html>'",
        ),
        (200, b"", "application/json", "status 200 and an empty body"),
        (200, b"[]", "application/json", "begins '[]'"),
        (200, b"{", "application/json", "begins '{'"),
        (200, b"\xff\xfe\x00", "application/octet-stream", "application/octet-stream"),
        (200, b"[" * 100_000, "application/json", "begins '[[["),
        (302, b"", "text/html", "status 302"),
        (404, b"<html>nginx</html>", "text/html", "status 404"),
        (404, b'{"detail": "Not Found"}', "application/json", "Not Found"),
        (502, b"upstream connect error \x1b[31m", "text/plain", "upstream connect error"),
        (500, b'{"error_code": 7, "message": null}', "application/json", "status 500"),
    ],
)
def test_what_is_not_wye_ends_with_4(run, server, answers, status, body, content_type, words):
    """An answer without the API's form is another server's: even a 404 of such a one is not "no such endpoint"."""
    server.script("GET", f"{API}/multi-model", answers.Answer(status, body, content_type))
    result = run("endpoints", "get", "multi-model")
    assert (result.exit_code, result.stdout) == (4, "")
    assert words in result.stderr
    assert "\x1b" not in result.stderr
    assert f"{server.url} does not answer as Wye does: GET {API}/multi-model gave" in result.stderr


def test_a_connection_that_breaks_ends_with_4(run, server, answers):
    """A server that hangs up is one that cannot be reached."""
    server.script("GET", API, answers.Answer(hang_up=True))
    result = run("endpoints", "list")
    assert result.exit_code == 4
    assert "cannot reach Wye" in result.stderr


def test_a_model_slower_than_the_timeout_ends_with_4(run_bare):
    """A listener that never answers is given up after --timeout, and the message tells the time."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = run_bare("query", "e", "--data", "{}", "--timeout", "0.05", "--url", url)
    assert (result.exit_code, result.stderr) == (4, f"Error: {url} did not answer within 0.05 s\n")


def test_proxies_are_not_asked_for_loopback(run, server):
    """A proxy of the environment does not stand between this machine and itself."""
    proxy = {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}
    assert run("endpoints", "list", env=proxy).exit_code == 0


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:1", True),
        ("http://127.0.0.9", True),
        ("http://[::1]:1", True),
        ("http://10.0.0.1", False),
        ("http://wye.example", False),
    ],
)
def test_loopback(url, loopback):
    """Only names and addresses of this machine are loopback."""
    assert Connection(url).loopback is loopback


def test_a_token_is_not_printed(tmp_path):
    """A connection's representation leaves the token out."""
    connection = resolve("http://x", "very-secret", tmp_path)
    assert connection.token == "very-secret"
    assert "very-secret" not in repr(connection)
