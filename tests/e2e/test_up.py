"""`wye up` itself: what stands in its way is told in one line, and it ends without a trace."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.wye import Wye, until

UP = [sys.executable, "-m", "controlplane.cli", "up"]


def refused(*arguments: str, **environment: str) -> str:
    """The one line with which `wye up` refuses to start."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WYE_", "MLFLOW_"))}
    done = subprocess.run(
        [*UP, *arguments], env={**inherited, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done
    (line,) = done.stderr.strip().splitlines()
    return line


def test_the_demo_serves_a_prediction_with_the_line_it_prints(start: Callable[..., Wye]) -> None:
    """`wye up --demo` ends with a ready endpoint of two models and a curl line that works when pasted."""
    wye = start("--demo")
    endpoint = wye.get("multi-model")
    assert endpoint["state"]["ready"] == "READY"
    routes = endpoint["config"]["traffic_config"]["routes"]
    assert [(r["served_model_name"], r["traffic_percentage"]) for r in routes] == [("current", 90), ("challenger", 10)]
    assert [(e["entity_name"], e["entity_version"]) for e in endpoint["config"]["served_entities"]] == [
        ("model-A", "1"),
        ("model-B", "1"),
    ]
    until(lambda: "Ctrl-C" in wye.output())
    (curl,) = [line.strip() for line in wye.output().splitlines() if line.strip().startswith("curl ")]
    answer = subprocess.run([*shlex.split(curl), "--silent", "--fail"], capture_output=True, text=True, check=True)
    assert "predictions" in json.loads(answer.stdout)


def test_wye_json_tells_where_everything_is_and_is_private(start: Callable[..., Wye]) -> None:
    """The file that scripts read holds a token, so only its owner may read it; a clean stop removes it."""
    wye = start()
    file = wye.state_dir / "wye.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(wye.about) == {"url", "token", "pids", "mlflow_uri"}
    assert set(wye.about["pids"]) == {"controlplane", "envoy", "worker_host"}
    assert wye.stop() == 0
    assert not file.exists()
    assert list((wye.state_dir / "run").glob("*.sock")) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_stops_everything_even_while_starting(short_dir: Path, signum: int, tmp_path: Path) -> None:
    """Stopped before it is ready, `wye up` ends with code 0 and leaves no process."""
    state_dir = short_dir / f"early{signum}"
    with (tmp_path / "out").open("wb") as output:
        process = subprocess.Popen([*UP, "--port", "0", "--state-dir", str(state_dir)], stdout=output, stderr=output)
        until((state_dir / "run" / "pids.json").exists, 60)
        process.send_signal(signum)
        assert process.wait(60) == 0
    left = subprocess.run(["pgrep", "-f", str(state_dir)], capture_output=True, text=True, check=False).stdout
    assert left == ""


def test_a_second_start_on_the_same_state_directory_says_so(wye: Wye) -> None:
    """It names the process that has the directory, and does not disturb it."""
    line = refused("--port", "0", "--state-dir", str(wye.state_dir))
    assert "Another `wye up`" in line
    assert str(wye.process.pid) in line
    assert wye.client.get("/api/2.0/wye/health").status_code == 200


def test_a_port_in_use_is_told(short_dir: Path) -> None:
    """The line names the port and how to choose another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("--port", str(port), "--state-dir", str(short_dir / "port"))
    assert f"Port {port}" in line
    assert "--port" in line


def test_a_state_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A file in the way of the state directory is named."""
    file = tmp_path / "file"
    file.touch()
    line = refused("--port", "0", "--state-dir", str(file / "state"))
    assert str(file) in line
    assert "--state-dir" in line


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gopher://somewhere", "not understood"),
        ("http://127.0.0.1:1", "does not answer"),
        ("sqlite:////no/such/directory/mlflow.db", "does not exist"),
        ("postgresql://wye:secret@127.0.0.1:1/x", "cannot be opened"),
    ],
)
def test_a_broken_registry_is_told_without_its_password(short_dir: Path, uri: str, said: str) -> None:
    """The line says what is wrong with the registry's URI, and shows no password."""
    line = refused("--port", "0", "--state-dir", str(short_dir / "registry"), "--mlflow-uri", uri)
    assert said in line
    assert "secret" not in line


def test_no_auth_is_refused_where_others_can_connect(short_dir: Path) -> None:
    """Without tokens only a loopback address is served."""
    line = refused("--port", "0", "--state-dir", str(short_dir / "open"), "--no-auth", "--host", "0.0.0.0")
    assert "WYE_NO_AUTH) is refused on 0.0.0.0" in line


def test_no_auth_is_refused_for_a_control_plane_alone_too(short_dir: Path) -> None:
    """It is what tells Envoy where to listen, and whom to let in."""
    variables = {"WYE_NO_AUTH": "1", "WYE_HOST": "0.0.0.0", "WYE_STATE_DIR": str(short_dir / "open")}
    command = [sys.executable, "-m", "controlplane"]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "WYE_NO_AUTH) is refused on 0.0.0.0" in done.stderr
    assert not (short_dir / "open").exists()


def test_a_setting_that_cannot_be_read_is_named(short_dir: Path) -> None:
    """The line names the variable."""
    assert "WYE_DRAIN" in refused("--port", "0", "--state-dir", str(short_dir / "setting"), WYE_DRAIN="soon")


def test_without_auth_no_token_is_needed(start: Callable[..., Wye]) -> None:
    """--no-auth serves whoever can connect, and gives an empty token."""
    wye = start("--no-auth")
    assert wye.token == ""
    assert wye.client.get("/api/2.0/serving-endpoints", headers={"authorization": ""}).status_code == 200
