"""How a host ends, and what is left of it: nothing."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from model_worker.protocol import ASLEEP, Spec, State
from model_worker.record import Record
from tests.model_worker.hosting import PATIENCE, ROOT, Control, RunningHost, call, connection, predict, wait_until
from tests.model_worker.saved_models import SavedModels
from tests.processes import command_line

ROW = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}

#: Code of a model that waits until there is the file that a request names.
WAIT = "all(time.sleep(0.01) is None for _ in iter(lambda: os.path.exists(model_input[0]), True))"


def test_a_terminated_host_leaves_nothing(models: SavedModels) -> None:
    """SIGTERM: requests in flight are answered, then replicas, fork server, sockets and the host itself are gone."""
    host = RunningHost()
    try:
        control = host.control()
        slow = control.ready("slow", models.code("slow_end", body="open('begun', 'w'); time.sleep(0.3); return [1]"))
        control.ready("quick", models("linear"))
        channel = connection(slow)
        channel.request("POST", "/invocations", b'{"inputs": [1]}')
        work = [process.cwd() for process in host.processes() if process.pid == slow["pid"]]
        wait_until(lambda: os.path.exists(os.path.join(work[0], "begun")), "the predict began")
        host.process.send_signal(signal.SIGTERM)
        assert channel.getresponse().status == 200
        channel.close()
        host.process.wait(PATIENCE)
        assert host.process.returncode == 0
        assert host.processes() == []
    finally:
        host.end()


def test_a_terminated_host_does_not_wait_for_ever(models: SavedModels) -> None:
    """A model that never returns keeps a host that was told to end no longer than its grace."""
    host = RunningHost("--stop-grace", "0.3")
    try:
        state = host.control().ready("r", models.code("endless", body="time.sleep(1000)"))
        channel = connection(state)
        channel.request("POST", "/invocations", b'{"inputs": [1]}')
    finally:
        host.end()
    channel.close()


def test_replicas_of_a_killed_host_serve_for_a_while_and_end(models: SavedModels) -> None:
    """Kill -9 of the host: its replicas answer on, and after the orphan grace they are gone with their sockets."""
    host = RunningHost("--orphan-grace", "5")
    try:
        state = host.control().ready("r", models("linear"))
        host.process.kill()
        host.process.wait()
        assert abs(predict(state, ROW)[0] - 4) < 1e-6
        wait_until(lambda: not host.processes(), "the orphans end")
        assert not os.path.exists(state["address"]["path"])
    finally:
        host.end()


def test_the_successor_of_a_dead_host_takes_its_replicas_over(models: SavedModels) -> None:
    """Twice in a row, of one that hangs and one that is killed: the same processes, and a request in hand is answered.

    So are those that wait for a replica that sleeps, all of them by one process; nobody else is woken. A replica that
    crashes then is noticed, its words are there, and it can be started again with the variables it had.
    """
    hosts = [RunningHost("--watchdog", "10")]
    clients = ThreadPoolExecutor(50)
    try:
        model = models.code("patient", body=f"{WAIT}; return [os.environ.get('COLOUR')]")
        control = hosts[0].control()
        state = control.ready("r", model, environment_vars={"COLOUR": "red"})
        control.start("other", models("linear"), asleep=True)
        control.start("asleep", models("linear"), asleep=True)
        sleeper = control.until("asleep", "ASLEEP")
        other = control.until("other", "ASLEEP")
        record = hosts[0].directory / "l" / "record"
        assert not any("red" in path.read_text() for path in record.iterdir())
        wait_until(lambda: keeps(hosts[0], 3), "somebody keeps their sockets")
        for each in keepers(hosts[0]):
            each.kill()  # it has a successor too
            each.wait()
        wait_until(lambda: keeps(hosts[0], 3), "somebody keeps their sockets again")
        answers = []
        for deadly in (hang, freeze):
            go = hosts[0].directory / f"go-{deadly.__name__}"
            channel = connection(state)
            channel.request("POST", "/invocations", json.dumps({"inputs": [str(go)]}).encode())
            wait_until(lambda: b"in_flight 1" in call(state, "GET", "/metrics")[1], "it is in hand")
            deadly(hosts[-1])
            answers += [clients.submit(predict, sleeper, ROW) for _ in range(25)]
            wait_until(lambda: waiting(sleeper) >= len(answers), "all of them wait")  # noqa: B023 - waited for here
            if deadly is hang:
                assert hosts[-1].process.wait(60) == 1
                assert "logs.py" in hosts[-1].output()  # where it hung
            hosts[-1].kill()
            hosts.append(RunningHost(directory=hosts[0].directory))
            control = hosts[-1].control()
            assert control.replicas["r"] == state
            go.touch()
            assert channel.getresponse().status == 200
            channel.close()
            lost = control.replicas["asleep"]
            assert (lost["phase"], lost["address"]) == ("FAILED", sleeper["address"])
        control.start("other", models("linear"), asleep=True)
        control.start("asleep", models("linear"), asleep=True, environment_vars={"WYE_QUEUE": "50"})
        assert all(abs(answer.result()[0] - 4) < 1e-6 for answer in answers)
        assert control.until("asleep", "READY")["attempt"] == 1
        assert control.until("other", "ASLEEP") == other
        os.kill(state["pid"], signal.SIGKILL)
        assert "ended" in control.until("r", "FAILED")["message"]
        again = control.ready("r", model, environment_vars={"COLOUR": "blue"})
        assert again["address"] == state["address"]
        assert predict(again, {"inputs": ["/"]}) == ["blue"]
    finally:
        hosts[-1].process.send_signal(signal.SIGCONT)
        hosts[-1].end()
        clients.shutdown()


def keepers(host: RunningHost) -> list[psutil.Process]:
    """The process that keeps a host's sockets."""
    return [each for each in psutil.Process(host.process.pid).children() if "keeper" in command_line(each)]


def keeps(host: RunningHost, sockets: int) -> bool:
    """Whether so many replicas' sockets are kept; the keeper's own are two more."""
    return any(len(each.net_connections("unix")) >= sockets + 2 for each in keepers(host))


def hang(host: RunningHost) -> None:
    """Let it wait in a system call for ever: opening this file waits for a reader, and none comes."""
    os.mkfifo(host.directory / "l" / "hung.log")
    control = host.control()
    control.start("hung", "/no/such/model")
    # What it says last before it opens the file: until then somebody who connects would still wake a replica.
    while control.replicas.get("hung", {}).get("address") is None:
        control.hear()


def freeze(host: RunningHost) -> None:
    """Let it run no more."""
    host.process.send_signal(signal.SIGSTOP)


def waiting(state: dict[str, Any]) -> int:
    """How many connections wait in a replica's socket."""
    path = state["address"]["path"]
    with open("/proc/net/unix") as table:  # those that nobody has accepted yet have the listener's path
        return sum(line.split()[-1] == path for line in table) - 1


def test_a_host_starts_whatever_its_predecessor_has_left() -> None:
    """A replica that cannot be taken over, here because it was on a port, is forgotten and can be started like a new one."""
    directory = Path(tempfile.mkdtemp(prefix="wye-", dir="/tmp"))
    left = State(Spec("r", "/no/such/model"), ASLEEP, address={"host": "127.0.0.1", "port": 1})
    Record(directory / "l" / "record").write("01234567-1", left, 0.0)
    host = RunningHost(directory=directory)
    try:
        control = host.control()
        assert control.replicas == {}
        control.start("r", "/no/such/model", asleep=True)
        assert control.until("r", "ASLEEP", "FAILED")["phase"] == "ASLEEP"
    finally:
        host.end()


def test_a_host_ends_while_its_fork_server_imports() -> None:
    """SIGTERM at once after the start, with a replica asked for: no process is left."""
    host = RunningHost()
    control = host.control()
    control.start("r", "/no/such/model")
    control.hear()
    host.end()


def test_a_second_host_at_the_same_address_says_so(host: RunningHost, control: Control) -> None:
    """One host to an address: the second ends with a clear line, and the first does not notice."""
    command = [sys.executable, "-m", "model_worker.host", "--listen", f"unix:{host.address}"]
    command += ["--socket-dir", str(host.sockets), "--log-dir", str(host.directory / "l2")]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert second.stderr == f"worker host: another worker host listens at {host.address} already\n"
    assert control.logs("nobody") == ""


def test_replicas_may_listen_on_ports(models: SavedModels) -> None:
    """With --replica-host a replica listens on a port of its own, and keeps it across attempts."""
    host = RunningHost("--replica-host", "127.0.0.1")
    try:
        control = host.control()
        state = control.ready("r", models("linear"))
        assert state["address"]["host"] == "127.0.0.1"
        assert call(state, "GET", "/ping")[0] == 200
        os.kill(state["pid"], signal.SIGKILL)
        control.until("r", "FAILED")
        assert control.ready("r", models("linear"))["address"] == state["address"]
    finally:
        host.end()


def test_the_hosts_variables_stay_with_the_host(control: Control, models: SavedModels) -> None:
    """Not even /proc shows a model what the host's environment holds."""
    model = models.code("spy", body="return [open('/proc/self/environ').read() + str(dict(os.environ))]")
    seen = predict(control.ready("r", model), {"inputs": [1]})[0]
    assert "hush" not in seen
    assert "MLFLOW_TRACKING_URI" not in seen


def test_a_control_plane_that_was_succeeded_is_not_obeyed() -> None:
    """Whoever has a smaller epoch than another had is told so, and all are told of the greater one."""
    host = RunningHost()
    try:
        former, successor = host.control(), host.control()
        former.say(type="acting", epoch=1)
        assert former.answer() == {"type": "acting", "epoch": 1}
        successor.say(type="acting", epoch=2)
        assert former.answer() == {"type": "acting", "epoch": 2}
        former.say(type="start", epoch=1, spec={"id": "r", "artifact_uri": "/no/such/model"})
        assert former.answer() == {"type": "acting", "epoch": 2}
        former.say(type="start", spec={"id": "r", "artifact_uri": "/no/such/model"})
        assert former.answer() == {"type": "acting", "epoch": 2}
        assert host.control().hello["replicas"] == []
    finally:
        host.end()
