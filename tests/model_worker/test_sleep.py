"""Replicas that sleep: no process, and the next request wakes them and is answered."""

import os
from concurrent.futures import ThreadPoolExecutor

import psutil

from tests.model_worker.hosting import Control, call, predict, wait_until
from tests.model_worker.saved_models import SavedModels

ROW = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}


def asleep(control: Control, replica_id: str) -> None:
    """Send a replica to sleep and wait until its process is gone."""
    control.say(type="sleep", id=replica_id, grace=30.0)
    while control.until(replica_id, "ASLEEP")["pid"] is not None:
        control.hear()


def test_a_request_wakes_a_sleeping_replica_and_is_answered(control: Control, models: SavedModels) -> None:
    """Asleep it has no process; the request that comes waits, a process is forked, and the request is answered."""
    before = control.ready("r", models("linear"))
    asleep(control, "r")
    assert not psutil.pid_exists(before["pid"])
    assert abs(predict(before, ROW)[0] - 4) < 1e-6
    state = control.until("r", "READY")
    assert (state["address"], state["attempt"]) == (before["address"], 2)


def test_a_hundred_first_requests_wake_one_process(control: Control, models: SavedModels) -> None:
    """All of them wait in the socket's queue and are answered by the one replica that is started."""
    before = control.ready("r", models("linear"), environment_vars={"WYE_QUEUE": "100"})
    asleep(control, "r")
    with ThreadPoolExecutor(100) as clients:
        answers = list(clients.map(lambda _: predict(before, ROW)[0], range(100)))
    assert all(abs(answer - 4) < 1e-6 for answer in answers)
    assert control.until("r", "READY")["attempt"] == 2


def test_a_replica_can_begin_asleep(control: Control, models: SavedModels) -> None:
    """It listens without ever having had a process, until somebody asks."""
    control.start("r", models("linear"), asleep=True)
    state = control.until("r", "ASLEEP")
    assert (state["pid"], state["attempt"], state["holds_connections"]) == (None, 0, True)
    assert abs(predict(state, ROW)[0] - 4) < 1e-6
    assert control.until("r", "READY")["attempt"] == 1


def test_a_control_plane_wakes_a_sleeping_replica_too(control: Control, models: SavedModels) -> None:
    """Also one whose former process has not ended yet; by a spec that lets it sleep it wakes later, when it is asked."""
    tells = models.code("tells", body="import os; return [os.environ['SAYS']]")
    state = control.ready("r", tells, environment_vars={"SAYS": "one"})
    assert predict(state, {"inputs": [1]}) == ["one"]
    asleep(control, "r")
    control.start("r", tells, environment_vars={"SAYS": "two"}, asleep=True)
    assert predict(state, {"inputs": [1]}) == ["two"]
    assert control.until("r", "READY")["attempt"] == 2
    control.say(type="sleep", id="r", grace=30.0)
    control.start("r", tells, environment_vars={"SAYS": "three"})
    while control.until("r", "READY")["attempt"] != 3:
        control.hear()
    assert predict(state, {"inputs": [1]}) == ["three"]


def test_what_has_requests_in_hand_is_not_sent_to_sleep(control: Control, models: SavedModels) -> None:
    """Whoever came next would wait until they are answered; asked again when they are, it sleeps."""
    slow = models.code("slow", body="open('begun', 'w'); time.sleep(0.3); return [1]")
    state = control.ready("r", slow)
    begun = os.path.join(psutil.Process(state["pid"]).cwd(), "begun")
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(predict, state, {"inputs": [1]})
        wait_until(lambda: os.path.exists(begun), "the predict began")
        control.say(type="sleep", id="r", grace=30.0)
        control.say(type="logs", id="r", lines=1, request=7, kind="output")
        while control.hear()["type"] != "logs":
            pass
        assert (control.replicas["r"]["phase"], answer.done()) == ("READY", False)
        assert answer.result() == [1]
    asleep(control, "r")
    assert control.replicas["r"]["attempt"] == 1


def test_a_sleeping_replica_can_be_stopped(control: Control, models: SavedModels) -> None:
    """Stopped in its sleep it is gone at once, and so is its socket."""
    control.ready("r", models("linear"))
    asleep(control, "r")
    path = control.replicas["r"]["address"]["path"]
    control.stop("r")
    control.until_gone("r")
    assert not os.path.exists(path)


def test_a_replica_sleeps_and_wakes_again_and_again(control: Control, models: SavedModels) -> None:
    """Every round has a process of its own, on the same socket."""
    state = control.ready("r", models("linear"))
    pids = {state["pid"]}
    for _ in range(3):
        asleep(control, "r")
        assert call(state, "GET", "/ping")[0] == 200
        pids.add(control.until("r", "READY")["pid"])
    assert len(pids) == 4


def test_only_a_ready_replica_can_be_sent_to_sleep(control: Control, models: SavedModels) -> None:
    """A replica that failed stays failed, and an unknown one is no error."""
    control.say(type="sleep", id="nobody", grace=1.0)
    control.start("r", models.code("broken", load="raise ValueError('no')"))
    control.until("r", "FAILED")
    control.say(type="sleep", id="r", grace=1.0)
    control.logs("r")
    assert control.replicas["r"]["phase"] == "FAILED"
