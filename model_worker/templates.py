"""Models that are loaded once for all their replicas: which ones, and the processes that hold them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from model_worker.forks import ForkError, Forks, ForkServer, Template
from model_worker.made_once import size_of
from model_worker.pulse import Patience
from model_worker.task import Task

_logger = logging.getLogger(__name__)

#: Flavours whose loaded models are values: nothing in them is connected to anything, so that a copy is as good.
#: Other models, pyfunc classes among them, may hold connections, which two processes must not share.
SHARED_LOADERS = frozenset({"mlflow.sklearn", "mlflow.xgboost", "mlflow.lightgbm", "mlflow.statsmodels"})

#: Seconds that one which no replica uses is kept, for the successor of a replica that crashed.
_IDLE = 10.0

_Key = tuple[str, str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class _Held:
    template: Template
    task: asyncio.Task[None]
    users: int = 0
    ending: asyncio.TimerHandle | None = None


class Templates:
    """The templates of a host: made when a model's first replica starts, gone soon after its last one."""

    def __init__(self, directory: Path, from_bytes: int, patience: Patience, *, idle: float = _IDLE) -> None:
        """`from_bytes`: smaller models are not worth a process more; 0: none is."""
        self._patience = patience
        self._directory = directory
        self._from_bytes = from_bytes
        self._idle = idle
        self._numbers = itertools.count(1)
        self._held: dict[_Key, _Held] = {}
        self._unsuitable: set[_Key] = set()

    @contextlib.asynccontextmanager
    async def of(self, task: Task, forks: ForkServer, log: int) -> AsyncIterator[Forks]:
        """What forks the task's replica: a process that holds its model already, or the fork server itself.

        What the model prints while it is loaded goes to `log`.
        """
        key = (task.model, forks.key, tuple(sorted(task.variables.items())))
        if key in self._unsuitable or not await asyncio.to_thread(self._suits, Path(task.model)):
            yield forks
            return
        held = self._held.get(key) or self._begin(key, task, forks, log)
        if held.ending is not None:
            held.ending.cancel()
            held.ending = None
        held.users += 1
        try:
            if await held.template.came_up():
                yield held.template
            else:
                # Whatever it was, a replica that loads the model itself does not have it, or tells it better.
                self._unsuitable.add(key)
                yield forks
        finally:
            held.users -= 1
            if held.users == 0:
                held.ending = asyncio.get_running_loop().call_later(self._idle, self._end, key, held)

    async def close(self) -> None:
        """End all; replicas go on."""
        tasks = [held.task for held in self._held.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, key: _Key, held: _Held) -> None:
        if self._held.get(key) is held:
            del self._held[key]
        held.task.cancel()

    def _begin(self, key: _Key, task: Task, forks: ForkServer, log: int) -> _Held:
        template = Template(self._patience)
        running = asyncio.create_task(
            self._run(key, template, task, forks, os.dup(log)), name=f"template of {task.model}"
        )
        held = self._held[key] = _Held(template, running)
        return held

    async def _run(self, key: _Key, template: Template, task: Task, forks: ForkServer, log: int) -> None:
        directory = self._directory / f"template-{next(self._numbers)}"
        try:
            directory.mkdir(mode=0o700)
            await template.run(forks, replace(task, directory=str(directory)).to_json(), log)
        except (ForkError, OSError) as error:
            _logger.warning("the model %s is not shared: %s", task.model, error)
        finally:
            template.abandon()
            os.close(log)
            shutil.rmtree(directory, ignore_errors=True)
            if (held := self._held.get(key)) is not None and held.template is template:
                del self._held[key]

    def _suits(self, folder: Path) -> bool:
        # The size first: reading the description takes longer, and most models are small.
        if not self._from_bytes or size_of(folder) < self._from_bytes:
            return False
        try:
            document = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
            loader = document["flavors"]["python_function"]["loader_module"]
        except (OSError, UnicodeError, yaml.YAMLError, LookupError, TypeError):
            return False  # the replica will say what is wrong with it
        return loader in SHARED_LOADERS
