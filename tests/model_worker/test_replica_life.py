"""Replicas on a real host: they start, answer, fail, are replaced and stop."""

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from tests.model_worker.hosting import Control, RunningHost, call, connection, predict, wait_until
from tests.model_worker.saved_models import SavedModels

ROW = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}

#: Code of a model that waits until there is a file `go` where its replica works.
HELD = "all(time.sleep(0.01) is None for _ in iter(lambda: os.path.exists('go'), True))"


def test_a_started_replica_answers(control: Control, models: SavedModels) -> None:
    """READY means that the replica answers predictions, pings and its version."""
    state = control.ready("r", models("linear"), identity={"endpoint_id": "e", "generation": 3})
    assert abs(predict(state, ROW)[0] - 4) < 1e-6
    assert call(state, "GET", "/ping") == (200, b"\n")
    assert call(state, "GET", "/health")[0] == 200
    assert call(state, "GET", "/version")[1].startswith(b"3.")
    assert state["identity"] == {"endpoint_id": "e", "generation": 3}
    assert (state["attempt"], state["holds_connections"], state["message"]) == (1, True, "")
    assert psutil.pid_exists(state["pid"])


def test_the_machine_and_what_replicas_take_of_it_are_told(control: Control, models: SavedModels) -> None:
    """Processors, memory, and the memory of each replica that was measured."""
    control.ready("measured", models("linear"))
    while (said := control.hear())["type"] != "machine" or "measured" not in said["taken"]:
        pass
    assert said["processors"] >= 1
    assert 0 < said["available"] < said["memory"]
    assert 1 << 20 < said["taken"]["measured"] < 1 << 30


def test_progress_is_shown_while_it_starts(control: Control, models: SavedModels) -> None:
    """A starting replica says what it is doing."""
    control.ready("r", models("linear"))
    assert "loading model" in control.messages


def test_starting_what_runs_changes_nothing(control: Control, models: SavedModels) -> None:
    """A second start of a replica that runs is not even announced."""
    state = control.ready("r", models("linear"))
    control.start("r", models("linear"))
    control.logs("r")  # whatever the start caused was said before this answer
    assert control.replicas["r"] == state


def test_a_stopped_replica_leaves_no_process_and_no_socket(control: Control, models: SavedModels) -> None:
    """Gone means gone: the process has ended and its socket's file is removed."""
    state = control.ready("r", models("linear"))
    control.stop("r")
    control.until_gone("r")
    assert not psutil.pid_exists(state["pid"])
    assert not os.path.exists(state["address"]["path"])


def test_requests_in_flight_are_answered_when_it_is_stopped(control: Control, models: SavedModels) -> None:
    """Twenty requests that a replica has, most of them still waiting for their turn, are all answered after the stop."""
    state = control.ready("r", models.code("held", body=f"{HELD}; return [1]"))
    go = Path(psutil.Process(state["pid"]).cwd(), "go")
    with ThreadPoolExecutor(20) as clients:
        answers = [clients.submit(predict, state, {"inputs": [1]}) for _ in range(20)]
        wait_until(lambda: b"requests_in_flight 20\n" in call(state, "GET", "/metrics")[1], "all are in hand")
        control.stop("r")
        go.touch()
        assert [answer.result() for answer in answers] == [[1]] * 20
    control.until_gone("r")


def test_a_stop_does_not_wait_longer_than_its_grace(control: Control, models: SavedModels) -> None:
    """A model that never returns is killed when the grace is over."""
    state = control.ready("r", models.code("forever", body="open('begun', 'w'); time.sleep(1000)"))
    begun = os.path.join(psutil.Process(state["pid"]).cwd(), "begun")
    channel = connection(state)
    channel.request("POST", "/invocations", b'{"inputs": [1]}')
    wait_until(lambda: os.path.exists(begun), "the predict began")
    assert call(state, "GET", "/ping")[0] == 200
    control.stop("r", grace=0.2)
    control.until_gone("r")
    channel.close()


def test_requests_wait_for_the_replacement_of_a_killed_process(control: Control, models: SavedModels) -> None:
    """After kill -9 new connections wait in the kernel, and the next attempt answers them on the same socket."""
    state = control.ready("r", models("linear"))
    os.kill(state["pid"], signal.SIGKILL)
    failed = control.until("r", "FAILED")
    assert failed["message"].startswith("killed by SIGKILL")
    assert (failed["permanent"], failed["pid"], failed["holds_connections"]) == (False, None, True)
    with ThreadPoolExecutor(1) as clients:
        queued = connection(state)
        queued.request("POST", "/invocations", json.dumps(ROW).encode())
        answer = clients.submit(queued.getresponse)
        again = control.ready("r", models("linear"))
        assert answer.result().status == 200
        queued.close()
    assert again["address"] == state["address"]
    assert again["pid"] != state["pid"]
    assert again["attempt"] == 2


def test_a_model_that_does_not_load_says_why(control: Control, models: SavedModels) -> None:
    """The exception's own words are the message, another attempt is known to be useless, and nobody waits in vain."""
    control.start("r", models.code("unloadable", load="import no_such_module"))
    failed = control.until("r", "FAILED", "READY")
    assert failed["message"] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert failed["permanent"]
    assert not failed["holds_connections"]
    assert "Traceback" in control.logs("r")
    control.start("r", models("linear"))
    control.until("r", "READY", "FAILED")
    assert control.replicas["r"]["attempt"] == 2
    assert control.replicas["r"]["address"] == failed["address"]


def test_a_model_that_is_not_there_says_so(control: Control) -> None:
    """An artifact that does not exist is named."""
    control.start("r", "/no/such/model")
    failed = control.until("r", "FAILED")
    assert "/no/such/model" in failed["message"] or "No such" in failed["message"]
    assert failed["permanent"]


def test_a_model_that_crashes_while_loading_may_be_tried_again(control: Control, models: SavedModels) -> None:
    """A death by signal carries the last lines of the log and is not permanent."""
    control.start("r", models.code("crashing", load="print('about to crash'); os.kill(os.getpid(), signal.SIGSEGV)"))
    failed = control.until("r", "FAILED", "READY")
    assert failed["message"].startswith("killed by SIGSEGV")
    assert "about to crash" in failed["message"]
    assert "Segmentation fault" in failed["message"]
    assert not failed["permanent"]


def test_a_model_that_leaves_while_loading_is_heard(control: Control, models: SavedModels) -> None:
    """A model that calls sys.exit does not end as if nothing had happened."""
    control.start("r", models.code("leaving", load="sys.exit(3)"))
    failed = control.until("r", "FAILED", "READY")
    assert failed["message"] == "SystemExit: 3"


def test_only_declared_variables_reach_the_model(control: Control, models: SavedModels) -> None:
    """A model sees its entity's variables and the base ones, nothing of the host's."""
    model = models.code("environment", body="return [dict(os.environ)]")
    seen = predict(control.ready("r", model, environment_vars={"MY_TOKEN": "secret"}), {"inputs": [1]})[0]
    assert seen["MY_TOKEN"] == "secret"
    assert seen["PATH"] == os.environ["PATH"]
    assert not [name for name in seen if name.startswith("PYTEST")]
    assert "HOST_SECRET" not in seen
    assert "MLFLOW_TRACKING_URI" not in seen


def test_what_a_model_prints_is_its_log(control: Control, models: SavedModels) -> None:
    """stdout, stderr and what native code writes to them end in the replica's log, and in no other's."""
    noisy = models.code(
        "noisy", body="print('to stdout'); print('to stderr', file=sys.stderr); os.system('echo native'); return [1]"
    )
    state = control.ready("r", noisy)
    control.ready("quiet", models("linear"))
    predict(state, {"inputs": [1]})
    log = control.logs("r")
    assert {"to stdout", "to stderr", "native"} <= set(log.splitlines())
    assert "to stdout" not in control.logs("quiet")
    assert control.logs("r", lines=1) == "native"
    assert control.logs("unknown") == ""


def test_a_model_that_prints_without_end_fills_no_disk(
    host: RunningHost, control: Control, models: SavedModels
) -> None:
    """The log is cut while the model prints on, and its last lines are there."""
    state = control.ready("loud", models.code("loud", body="print(('x' * 99 + chr(10)) * 120_000); return [1]"))
    predict(state, {"inputs": [1]})
    log = host.directory / "l" / "loud.log"
    wait_until(lambda: log.stat().st_size < 2 * 1024 * 1024, "the log is cut")
    predict(state, {"inputs": [1]})
    assert control.logs("loud", lines=2).startswith("x")


def test_a_replica_that_is_still_loading_can_be_stopped(control: Control, models: SavedModels) -> None:
    """A stop does not wait for a load that may never end."""
    control.start("r", models.code("dawdling", load="time.sleep(1000)"))
    while control.replicas.get("r", {}).get("message") != "loading model":
        control.hear()
    control.stop("r", grace=1000)
    control.until_gone("r")


def test_a_replica_is_stopped_before_it_has_a_process(control: Control, models: SavedModels) -> None:
    """Start and stop in one breath leave nothing."""
    for _ in range(5):
        control.start("r", models("linear"))
        control.stop("r")
        control.until("r", "STARTING", "STOPPING")
        control.until_gone("r")


def test_pings_are_answered_while_the_model_works(control: Control, models: SavedModels) -> None:
    """A busy model does not make its replica look dead."""
    state = control.ready("r", models.code("busy", body=f"{HELD}; return [1]"))
    go = Path(psutil.Process(state["pid"]).cwd(), "go")
    busy = threading.Thread(target=predict, args=(state, {"inputs": [1]}))
    busy.start()
    wait_until(lambda: b"requests_in_flight 1\n" in call(state, "GET", "/metrics")[1], "it works")
    assert call(state, "GET", "/ping")[0] == 200
    assert busy.is_alive()
    go.touch()
    busy.join()


def test_replicas_do_not_share_their_random_numbers(control: Control, models: SavedModels) -> None:
    """Two forks of one process draw different numbers."""
    model = models.code("random", body="import random; return [random.random(), float(np.random.random())]")
    first, second = (predict(control.ready(name, model), {"inputs": [1]}) for name in ("r1", "r2"))
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_every_flavour_serves(control: Control, models: SavedModels) -> None:
    """xgboost, lightgbm, catboost, pyfunc classes, models from code and chat models load in a fork and answer."""
    for name in ("xgboost", "lightgbm", "catboost", "from_code", "parameters", "pipeline"):
        row = {"city": "Rome", "age": 2, "member": True, "score": 1.0} if name == "pipeline" else {"a": 1.0, "b": 2.0}
        assert len(predict(control.ready(name, models(name)), {"dataframe_records": [row]})) == 1
    status, body = call(
        control.ready("chat", models("chat")),
        "POST",
        "/invocations",
        b'{"messages": [{"role": "user", "content": "hi"}]}',
    )
    assert status == 200, body
    assert json.loads(body)["choices"][0]["message"]["content"] == "HI"


def test_a_model_may_load_other_models(control: Control, models: SavedModels) -> None:
    """As bundles do, and agents; MLflow 3.17 would wait for itself."""
    load = f"self.inner = mlflow.pyfunc.load_model({str(models('linear'))!r})"
    nested = models.code("nested", "return self.inner.predict(model_input)", load)
    [answer] = predict(control.ready("r", nested), {"dataframe_records": [{"a": 1.0, "b": 2.0}]})
    assert round(answer, 6) == 4


def test_a_command_that_cannot_be_obeyed_is_answered(control: Control) -> None:
    """Nonsense gets an error, and the connection stays usable."""
    control.say_raw(b"nonsense\n")
    assert control.answer()["type"] == "error"
    control.say(type="dance")
    assert "dance" in control.answer()["message"]
    control.say(type="start", spec={"id": "never"})
    assert "artifact_uri" in control.answer()["message"]
    assert control.logs("never") == ""


def test_a_dead_fork_server_is_replaced_and_its_replicas_serve_on(
    host: RunningHost, control: Control, models: SavedModels
) -> None:
    """Kill -9 of the fork server: replicas answer as before, new ones can be started, and the old can be stopped."""
    old = control.ready("old", models("linear"))
    fork_server = psutil.Process(old["pid"]).parent()
    assert fork_server is not None
    fork_server.kill()
    fork_server.wait()
    control.start("new", models("linear"))
    while (new := control.until("new", "READY", "FAILED"))["phase"] == "FAILED":
        # It was asked for before the death was noticed; any control plane would ask again.
        assert (new["message"], new["permanent"]) == ("the fork server was killed by SIGKILL", False)
        control.start("new", models("linear"))
    assert predict(old, ROW) == predict(new, ROW)
    assert control.replicas["old"]["phase"] == "READY"
    control.stop("old")
    control.until_gone("old")
