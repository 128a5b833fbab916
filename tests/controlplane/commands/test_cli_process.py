"""The command line as a process: what it imports, what a terminal shows, what signals do."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from controlplane.cli import cli

ROOT = Path(__file__).parents[3]
WYE = [sys.executable, "-m", "controlplane.cli"]


def environment(server=None, **more):
    """The environment of the tests, leading to the stub and saying nothing of colours."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("WYE_") and key not in {"FORCE_COLOR", "NO_COLOR"}
    }
    there = {"WYE_URL": server.url, "WYE_TOKEN": "secret-token"} if server else {}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "160", **there, **more}


def test_every_exit_code_is_in_the_help():
    """`wye --help` documents what scripts may rely on."""
    text = CliRunner().invoke(cli, ["--help"]).stdout
    for code in ("0", "1", "2", "3", "4", "5", "6", "130"):
        assert re.search(rf"^ +{code}  ", text, re.MULTILINE), code


def test_every_summary_is_the_commands_own():
    """The summaries in `wye --help`, written down so that nothing need be imported, agree with the commands' help."""
    context = cli.make_context("wye", ["status"], resilient_parsing=True)
    names = cli.list_commands(context)
    assert names[:6] == ["up", "status", "endpoints", "split", "query", "settings"]
    for name in names:
        summary = cli.get_command(context, name).get_short_help_str(200)
        _, command, _ = cli.resolve_command(context, [name])
        assert command.name == name
        assert command.get_short_help_str(200) == summary


def test_help_imports_no_command():
    """`wye --help` stays quick: neither HTTP, tables nor anything of the control plane is imported for it."""
    script = (
        "import sys\nfrom controlplane.cli import cli\ncli(['--help'], standalone_mode=False)\n"
        "heavy = {'httpx', 'rich', 'yaml', 'mlflow', 'flask', 'grpc', 'sqlalchemy', 'controlplane.up', 'controlplane.commands.client'}\n"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wrong_command_is_answered_with_the_right_one():
    """A typing error gets a suggestion."""
    result = CliRunner().invoke(cli, ["statsu"])
    assert result.exit_code == 2
    assert "status" in result.stderr


def test_pipes_carry_json_in_any_encoding(server):
    """A real process with an ASCII locale prints valid JSON and exits with 0; standard input is read with `-`."""
    done = subprocess.run(
        [*WYE, "query", "multi-model", "-", "-o", "json"],
        env=environment(server, PYTHONIOENCODING="ascii"),
        input=b'{"inputs": [1]}',
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout.decode("ascii")) == {"predictions": [1.5, {"label": "ü"}]}


def test_pipes_carry_tables_in_any_encoding(server):
    """What an encoding lacks is escaped rather than fatal."""
    server.add("odd", [{"name": "m", "entity_name": "模型", "entity_version": "1"}])
    done = subprocess.run(
        [*WYE, "status"], env=environment(server, PYTHONIOENCODING="ascii"), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u6a21\u578b 1" in done.stdout


def test_errors_of_a_process(server):
    """The exit code and standard error of a real process are those of the command."""
    done = subprocess.run(
        [*WYE, "endpoints", "get", "nobody"], env=environment(server), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "Error: Serving endpoint with name nobody not found (RESOURCE_DOES_NOT_EXIST)\n"


def test_a_reader_that_leaves_early_is_no_error_message(server):
    """`wye … | head` ends without a traceback."""
    for number in range(3000):
        server.add(f"e{number}", [{"name": "m", "entity_name": "n", "entity_version": "2"}])
    process = subprocess.Popen(
        [*WYE, "endpoints", "list"], env=environment(server), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline().startswith(b"NAME")
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(30)


class Terminal:
    """A process whose standard streams are a pseudo-terminal."""

    def __init__(self, args, env):
        self.main, child = pty.openpty()
        self.process = subprocess.Popen(
            [*WYE, *args], env=env, stdin=child, stdout=child, stderr=child, start_new_session=True
        )
        os.close(child)
        self.text = ""

    def until(self, words, seconds=60.0):
        """Read until the words were shown since the last call; with None, until the process has closed the terminal."""
        deadline = time.monotonic() + seconds
        start = len(self.text)
        while words is None or words not in self.text[start:]:
            ready, _, _ = select.select([self.main], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{words!r} was not shown in {seconds} s but: {self.text[start:]!r}"
            try:
                chunk = os.read(self.main, 65536)
            except OSError:  # EIO: nobody has the terminal open any more
                chunk = b""
            if not chunk:
                assert words is None, f"ended without {words!r}: {self.text[start:]!r}"
                break
            self.text += chunk.decode("utf-8", "replace")
        return self.text[start:]

    def interrupt(self):
        os.kill(self.process.pid, signal.SIGINT)
        self.until(None)
        return self.process.wait(30)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.main)


@pytest.fixture
def terminal():
    """Opens pseudo-terminals with a `wye` in each."""
    opened = []

    def open_terminal(*args, env):
        opened.append(Terminal(args, env))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def test_watch_on_a_terminal(server, terminal):
    """The table refreshes in place, survives the server's absence, and Ctrl-C ends it with 0."""
    shown = terminal("status", "--watch", "--interval", "0.05", env=environment(server))
    shown.until("challenger")
    server.stop()
    shown.until("trying again")
    server.start()
    server.add("a-newcomer", [{"name": "m", "entity_name": "[red]odd[/red]", "entity_version": "1"}])
    shown.until("[red]odd[/red]")
    assert shown.interrupt() == 0
    assert "Traceback" not in shown.text
    assert "Aborted" not in shown.text


def test_a_table_on_a_terminal_is_coloured_and_not_repetitive(server, terminal):
    """People get colours, and an endpoint's name once for all its rows."""
    shown = terminal("status", env=environment(server))
    text = shown.until(None)
    assert shown.process.wait(30) == 0
    assert "\x1b[32mREADY" in text
    assert text.count("multi-model") == 1


def test_long_messages_on_a_terminal_stand_below_the_table(server, terminal):
    """A traceback is shown in full with its lines, under the name of its entity; a narrow terminal loses nothing of it."""
    entity = server.endpoints["multi-model"]["config"]["served_entities"][1]
    entity["state"]["deployment_state_message"] = "OSError: [red]disk[/red]\n\x1b[2J  at line 3"
    shown = terminal("status", env=environment(server, COLUMNS="60"))
    text = re.sub(r"\x1b\[\d*m", "", shown.until(None)).replace("\r\n", "\n")
    assert text.endswith("\nmulti-model/challenger: OSError: [red]disk[/red]\n  \\x1b[2J  at line 3\n")
    assert "MESSAGE" not in text


def test_ctrl_c_while_waiting_ends_with_130(server, terminal):
    """Waiting shows how far the update is; Ctrl-C says that the update goes on."""
    server.polls = None
    shown = terminal("endpoints", "update", "multi-model", "--entity", "a=b:3", env=environment(server))
    shown.until("a: CREATING Loading the model")
    assert shown.interrupt() == 130
    assert "stopped waiting; the update of multi-model goes on" in shown.text


@pytest.mark.parametrize(
    ("output", "first", "change"),
    [
        ("json", '{"name": "multi-model"', '"READY", "config_update": "IN_PROGRESS"'),
        ("table", "challenger", "2 pending"),
    ],
)
def test_watch_in_a_pipe_prints_changes(server, output, first, change):
    """Where nobody can redraw, each change is printed once: a line of JSON, or a table."""
    process = subprocess.Popen(
        [*WYE, "status", "multi-model", "--watch", "--interval", "0.05", "-o", output],
        env=environment(server, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        lines = read_until(process, first)
        server.polls = None
        server.answer_now(
            "PUT",
            "/api/2.0/serving-endpoints/multi-model/config",
            {"served_entities": [{"entity_name": "m", "entity_version": "1"}]},
        )
        lines += read_until(process, change)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    if output == "json":
        answers = [json.loads(line) for line in [*lines, *rest.splitlines()]]
        assert [each["state"]["config_update"] for each in answers] == ["NOT_UPDATING", "IN_PROGRESS"]


def read_until(process, words):
    """The lines up to the one with these words."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"ended without {words!r}: {lines}")
