"""Large models are loaded once for all their replicas, where nothing in them is connected to anything."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from model_worker.environments import BASE
from model_worker.forks import ForkError, ForkServer, Template
from model_worker.pulse import Patience
from model_worker.task import Limits, Task
from model_worker.templates import Templates
from model_worker.variables import fork_server_variables
from tests.model_worker.hosting import Control, RunningHost, predict, wait_until
from tests.model_worker.saved_models import SavedModels
from tests.processes import alive

ROW = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    """A host for which a megabyte is large."""
    running = RunningHost("--share-megabytes", "1")
    yield running
    running.end()


def parent(state: dict[str, Any]) -> psutil.Process:
    """The process that a replica was forked from."""
    found = psutil.Process(state["pid"]).parent()
    assert found is not None
    return found


def test_replicas_of_one_model_share_it(control: Control, models: SavedModels) -> None:
    """They come from a process that holds the model, and so does the successor of one that was killed."""
    small = control.ready("small", models("linear"))
    first, second = (control.ready(name, models("neighbours")) for name in ("r1", "r2"))
    template = parent(first)
    assert parent(second) == template
    assert template.parent() == parent(small)
    assert [predict(state, ROW) for state in (first, second)] == [[4.0], [4.0]]
    os.kill(first["pid"], signal.SIGKILL)
    control.until("r1", "FAILED")
    again = control.ready("r1", models("neighbours"))
    assert parent(again) == template
    assert predict(again, ROW) == [4.0]


def test_other_variables_are_another_process(control: Control, models: SavedModels) -> None:
    """A replica never has a model that was loaded with the variables of another entity."""
    first = control.ready("r1", models("neighbours"), environment_vars={"A": "1"})
    second = control.ready("r2", models("neighbours"), environment_vars={"A": "2"})
    assert parent(first) != parent(second)


def test_models_that_may_hold_connections_are_not_shared(control: Control, models: SavedModels) -> None:
    """A pyfunc class is loaded by each replica, however large it is."""
    large = models.code("large", body="return [os.getpid(), self.pid]", load="self.pid = os.getpid()")
    (large / "ballast").write_bytes(bytes(2 << 20))
    for name in ("r1", "r2"):
        state = control.ready(name, large)
        assert predict(state, {"inputs": [1]}) == [state["pid"], state["pid"]]


def test_a_model_that_does_not_load_says_why_as_ever(control: Control, models: SavedModels, tmp_path: Path) -> None:
    """What went wrong is told by a replica that tried by itself."""
    broken = tmp_path / "broken"
    shutil.copytree(models("neighbours"), broken)
    [file] = (path for path in broken.iterdir() if path.name.startswith("model."))
    file.write_bytes(bytes(2 << 20))
    control.start("r", broken)
    failed = control.until("r", "FAILED", "READY")
    assert failed["permanent"]
    assert "Error" in failed["message"] or "Exception" in failed["message"]


def test_a_template_that_dies_takes_no_replica_with_it(control: Control, models: SavedModels) -> None:
    """Its replicas serve on, and the next one is made all the same."""
    old = control.ready("old", models("neighbours"))
    template = parent(old)
    template.kill()
    wait_until(lambda: not alive(template), "it is dead")
    control.start("new", models("neighbours"))
    while (new := control.until("new", "READY", "FAILED"))["phase"] == "FAILED":
        assert not new["permanent"]
        control.start("new", models("neighbours"))
    assert predict(old, ROW) == predict(new, ROW) == [4.0]
    assert control.replicas["old"]["phase"] == "READY"
    control.stop("old")
    control.until_gone("old")


def test_nobody_waits_for_a_template_that_has_ended() -> None:
    """There will be no other in its place: who asks, before or after its end, is told so."""

    async def scenario() -> None:
        template = Template(Patience())
        async with asyncio.timeout(60):
            asked = asyncio.create_task(template.fork("replica", "{}", []))
            await asyncio.sleep(0)
            template.abandon()
            with pytest.raises(ForkError):
                await asked
            with pytest.raises(ForkError):
                await template.fork("replica", "{}", [])
            assert not await template.came_up()

    asyncio.run(scenario())


def test_a_replica_can_be_stopped_while_its_model_is_loaded_for_all(control: Control, models: SavedModels) -> None:
    """Start and stop in one breath leave nothing."""
    for _ in range(3):
        control.start("r", models("neighbours"), environment_vars={"B": "1"})
        control.stop("r")
        control.until("r", "STARTING", "STOPPING")
        control.until_gone("r")


def test_a_template_that_nobody_uses_ends(models: SavedModels, tmp_path: Path) -> None:
    """It is kept for a while for the next replica, then its process and its directory go; who comes later gets another."""

    async def scenario() -> None:
        patience = Patience()
        server = ForkServer(BASE, fork_server_variables(os.environ), patience, log=tmp_path / "log", directory=tmp_path)
        running = asyncio.create_task(server.run())
        templates = Templates(tmp_path, 1, patience, idle=60)
        task = Task("t/r", str(models("neighbours")), {}, str(tmp_path), Limits())

        def directories() -> list[str]:
            return [path.name for path in tmp_path.glob("template-*")]

        with (tmp_path / "output").open("wb") as output:
            async with templates.of(task, server, output.fileno()) as first:
                assert isinstance(first, Template)
                [process] = psutil.Process(server.pid).children()
                assert directories() == ["template-1"]
            async with templates.of(task, server, output.fileno()) as same:
                assert same is first
                templates._idle = 0.0
            await asyncio.to_thread(wait_until, lambda: not directories() and not alive(process), "it is gone")
            async with templates.of(task, server, output.fileno()) as later:
                assert isinstance(later, Template)
                assert later is not first
        await templates.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
