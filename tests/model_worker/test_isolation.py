"""A model that crashes, sleeps, eats memory or prints without end harms no other."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any, Self

import pytest

from model_worker.allowance import Allowance, Processors, allowances, by_size
from tests.model_worker.hosting import Control, RunningHost, call, predict, wait_until
from tests.model_worker.saved_models import SavedModels

ROW = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}
ASK = b'{"inputs": [1]}'
MEGABYTES = 700


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    """A host whose small replicas may use little."""
    running = RunningHost("--memory", f"{MEGABYTES},0,0", "--cpus", "1,0,0", "--nice", "3")
    yield running
    running.end()


class Neighbour:
    """Asks a well-behaved replica again and again, which answers, each time in time."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self.answers = 0
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                assert round(predict(self._state, ROW)[0], 6) == 4.0
            except (AssertionError, OSError, HTTPException) as error:
                self._failure = error
                return
            self.answers += 1

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: bool(self.answers or self._failure), "the neighbour answers")
        return self

    def __exit__(self, *_: object) -> None:
        answered = self.answers
        try:
            wait_until(lambda: self.answers > answered or self._failure is not None, "it still does")
        finally:
            self._stop.set()
            self._thread.join()
        assert self._failure is None


@pytest.fixture
def neighbour(control: Control, models: SavedModels) -> Neighbour:
    """A replica that has nothing to do with the others."""
    return Neighbour(control.ready("neighbour", models("linear")))


def ask_in_vain(state: dict[str, Any]) -> None:
    """A request whose replica dies of it."""
    with pytest.raises((OSError, HTTPException)):
        call(state, "POST", "/invocations", ASK)


def test_a_crash_is_nobody_elses(control: Control, models: SavedModels, neighbour: Neighbour) -> None:
    """A segmentation fault ends one replica, with the place in its last words, and no other."""
    state = control.ready("bad", models.code("segfault", body="os.kill(os.getpid(), signal.SIGSEGV); return [1]"))
    with neighbour:
        ask_in_vain(state)
        failed = control.until("bad", "FAILED")
    assert failed["message"].startswith("killed by SIGSEGV")
    assert "segfault.py" in failed["message"]


def test_a_model_that_eats_memory_is_ended(control: Control, models: SavedModels, neighbour: Neighbour) -> None:
    """It is told how much it used and how much it may, and another attempt makes sense."""
    eater = models.code(
        "eater",
        body="h = []\n        for _ in range(2000):\n            h.append(bytearray(1 << 20)); time.sleep(0.001)\n        time.sleep(1000)",
    )
    state = control.ready("bad", eater)
    with neighbour:
        ask_in_vain(state)
        failed = control.until("bad", "FAILED")
    assert f"more than the {MEGABYTES} MB that a replica of workload size Small may use" in failed["message"]
    assert not failed["permanent"]


def test_a_model_may_use_what_its_workload_size_allows(control: Control, models: SavedModels) -> None:
    """What is too much for a small one is not for one without a limit."""
    hungry = models.code("hungry", load="self.much = bytearray(b'x' * (900 << 20))")
    control.start("small", hungry)
    control.ready("large", hungry, workload_size="Large")
    assert "MB of memory" in control.until("small", "FAILED")["message"]


def test_models_that_sleep_keep_nobody_waiting(control: Control, models: SavedModels, neighbour: Neighbour) -> None:
    """A replica all of whose threads are busy is its own problem."""
    state = control.ready("bad", models.code("sleeper", body="time.sleep(1000)"))
    channels = [threading.Thread(target=ask_in_vain, args=(state,)) for _ in range(8)]
    with neighbour:
        for channel in channels:
            channel.start()
    control.stop("bad", grace=0)
    control.until_gone("bad")
    for channel in channels:
        channel.join()


def test_a_gigabyte_of_prints_is_bounded(
    host: RunningHost, control: Control, models: SavedModels, neighbour: Neighbour
) -> None:
    """What it prints does not fill the disk, what it printed last is kept, and others answer meanwhile."""
    # It waits where the disk would be full, for ever if nobody cut the log.
    body = "block = 'x' * 99 + chr(10)\n        for _ in range(1000):\n            sys.stdout.write(block * 10_000)\n"
    body += "            while os.fstat(1).st_size > 300 << 20: time.sleep(0.01)\n"
    state = control.ready("bad", models.code("printer", body=f"{body}        print('the end'); return [1]"))
    log = host.directory / "l" / "bad.log"
    sizes: list[int] = []
    asking = threading.Thread(target=predict, args=(state, {"inputs": [1]}))
    with neighbour:
        asking.start()
        while asking.is_alive():
            sizes.append(log.stat().st_size)
            asking.join(0.01)
    wait_until(lambda: log.stat().st_size < 5 << 20, "the log is cut")
    assert control.logs("bad", lines=1) == "the end"
    assert max(sizes) < 310 << 20


def test_a_replica_keeps_to_its_processors_and_stands_back(control: Control, models: SavedModels) -> None:
    """Small replicas share the processors out, others use all; each stands back, and is the kernel's first victim."""
    body = "return [sorted(os.sched_getaffinity(0)), os.nice(0), open('/proc/self/oom_score_adj').read().strip()]"
    model = models.code("where", body=body)
    seen = [predict(control.ready(f"r{number}", model), {"inputs": [1]}) for number in range(2)]
    every = sorted(os.sched_getaffinity(0))
    if len(every) > 1:
        assert [len(processors) for processors, _, _ in seen] == [1, 1]
        assert seen[0][0] != seen[1][0]
    assert [rest for _, *rest in seen] == [[3 + os.nice(0), "500"]] * 2
    large = predict(control.ready("large", model, workload_size="Large"), {"inputs": [1]})
    assert large[0] == every


def test_an_entity_may_ask_for_more_threads(control: Control, models: SavedModels) -> None:
    """Numerical libraries use one thread each, or as many as the entity's variables say, whoever has loaded them."""
    body = "import threadpoolctl; return sorted({(i['user_api'], i['num_threads']) for i in threadpoolctl.threadpool_info()})"
    model = models.code("threads", body=body)
    assert predict(control.ready("one", model), {"inputs": [1]}) == [["blas", 1], ["openmp", 1]]
    more = {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "2"}
    state = control.ready("more", model, environment_vars=more)
    assert predict(state, {"inputs": [1]}) == [["blas", 2], ["openmp", 3]]


def test_allowances_are_read_by_size() -> None:
    """One number is for all sizes, three are for one each, anything else is refused."""
    assert by_size("5") == (5, 5, 5)
    assert allowances(by_size("1,2,0"), by_size("0"))["Medium"] == Allowance("Medium", 2 << 20, 0)
    for nonsense in ("1,2", "x", "1,2,-3", ""):
        with pytest.raises(ValueError, match=r"\S"):
            by_size(nonsense)


def test_processors_are_given_back() -> None:
    """The next replica gets what the last one left."""
    shares = Processors()
    with shares.some(1) as first:
        pass
    with shares.some(1) as again, shares.some(0) as unlimited:
        assert again == first
        assert unlimited == ()
