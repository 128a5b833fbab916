"""A replica that is dead in all but name is ended, with words for it; one that is merely slow is not."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_worker.pulse import Patience, at, make, verdict
from tests.model_worker.hosting import ROOT, Control, RunningHost, call, predict, wait_until
from tests.model_worker.saved_models import SavedModels
from tests.processes import command_line

ROW = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}
PATIENCE = Patience(silent=15, working=297, loading=1200)


def test_a_pulse_is_seen_by_whoever_has_its_descriptor() -> None:
    """What one side writes the other reads."""
    descriptor = make()
    ours, theirs = at(descriptor), at(descriptor)
    os.close(descriptor)
    theirs[0] = 12.5
    assert list(ours) == [12.5, 0.0]


@pytest.mark.parametrize(
    ("beat", "at_work", "stopped", "words"),
    [
        (995, 0, False, ""),
        (980, 0, False, "it did not respond for 20 s"),
        # It holds the interpreter's lock, as some libraries do, or is only slow: it is at work.
        (900, 900, False, ""),
        (999, 710, False, ""),
        (999, 600, False, "it answered none of the requests it had in hand for 400 s"),
        (500, 600, False, "it answered none of the requests it had in hand for 400 s"),
        # Whatever it has in hand, a process that is not let run will not answer it.
        (980, 990, True, "its process was stopped for 20 s"),
        (990, 990, True, ""),
        # It loads, since 400 s before.
        (0, 0, False, ""),
    ],
)
def test_who_is_dead(beat: float, at_work: float, stopped: bool, words: str) -> None:
    """Silence, a stopped process, and work without an end; not slowness, and not a long load."""
    assert verdict([beat, at_work], 1000, 600, PATIENCE, stopped=stopped) == words


@given(st.floats(0, 1000), st.floats(0, 1000), st.booleans())
def test_nobody_is_dead_who_had_no_time_to_live(beat: float, at_work: float, stopped: bool) -> None:
    """While the host itself could not run, nothing is held against a replica."""
    assert verdict([beat, at_work], 1000, 990, PATIENCE, stopped=stopped) == ""


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    """A host of little patience."""
    running = RunningHost("--hang-after", "4", "--request-timeout", "6")
    yield running
    running.end()


def test_a_stopped_process_is_replaced(control: Control, models: SavedModels) -> None:
    """SIGSTOP: it fails with the reason, what it had in hand is reset, what comes to its socket waits for the next."""
    state = control.ready("r", models("linear"))
    os.kill(state["pid"], signal.SIGSTOP)
    with ThreadPoolExecutor(1) as client:
        waiting = client.submit(call, state, "POST", "/invocations", json.dumps(ROW).encode())
        failed = control.until("r", "FAILED")
        assert failed["message"].startswith("ended because its process was stopped for ")
        assert (failed["permanent"], failed["holds_connections"]) == (False, True)
        control.ready("r", models("linear"))
        assert waiting.result()[0] == 200
    wait_until(lambda: not psutil.pid_exists(state["pid"]), "the stopped process is gone")


def test_a_model_in_a_deadlock_is_replaced_and_a_slow_one_is_not(control: Control, models: SavedModels) -> None:
    """Both are silent for longer than an idle replica may be; only the one that goes on beyond the timeout is ended."""
    model = models.code(
        "stuck", body="seconds = float(model_input[0])\n        time.sleep(seconds)\n        return [seconds]"
    )
    state = control.ready("stuck", model)
    assert predict(state, {"inputs": [4.5]}) == [4.5]
    with pytest.raises(http.client.RemoteDisconnected):
        call(state, "POST", "/invocations", b'{"inputs": [1000]}')
    failed = control.until("stuck", "FAILED")
    assert "it answered none of the requests it had in hand for" in failed["message"]
    assert predict(control.ready("stuck", model), {"inputs": [0]}) == [0]


def test_a_model_that_holds_the_interpreter_is_not_dead(control: Control, models: SavedModels) -> None:
    """Its replica's heart does not beat meanwhile, but it is at work."""
    body = "import ctypes; ctypes.PyDLL(None).usleep(4500000); return [1]"  # PyDLL keeps the lock
    state = control.ready("greedy", models.code("greedy", body=body))
    assert predict(state, {"inputs": [1]}) == [1]
    assert control.replicas["greedy"]["phase"] == "READY"


def test_a_fork_server_that_is_stopped_is_replaced(host: RunningHost, control: Control, models: SavedModels) -> None:
    """SIGSTOP: replicas serve on, and a start that was not answered fails in words and succeeds when it is tried again."""
    state = control.ready("before", models("linear"))
    forks = [each for each in psutil.Process(host.process.pid).children() if "forkserver" in command_line(each)]
    forks[0].suspend()
    control.start("r", models("linear"))
    assert "the fork server was killed by SIGKILL" in control.until("r", "FAILED")["message"]
    assert predict(state, ROW)
    control.ready("r", models("linear"))
    os.kill(state["pid"], signal.SIGKILL)  # its end is noticed, though its parent is gone
    control.until("before", "FAILED")


def test_code_that_keeps_the_interpreter_does_not_keep_the_watchdog() -> None:
    """An endless loop is ended, in Python and in C."""
    for loop in ("while True: pass", "import ctypes; ctypes.PyDLL(None).pause()"):  # PyDLL keeps the lock
        code = f"""
import asyncio
from model_worker.watchdog import watchdog
async def main():
    task = asyncio.create_task(watchdog(1))
    await asyncio.sleep(0)
    {loop}
asyncio.run(main())
"""
        ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert b"in main" in ended.stderr
