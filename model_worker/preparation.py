"""All that has to be there before a replica's process can be made: its model, its environment, and what forks it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model_worker.artifacts import FetchError
from model_worker.environments import EnvironmentFailure
from model_worker.forks import ForkError, Forks
from model_worker.orphanage import identity
from model_worker.protocol import Spec
from model_worker.surroundings import Surroundings
from model_worker.task import Task

#: Characters of a line of progress.
_LONGEST_PROGRESS = 300


@dataclass(frozen=True, slots=True)
class Attempt:
    """A process of a replica to be."""

    spec: Spec
    #: The replica's.
    name: str
    number: int
    directory: Path

    @property
    def heading(self) -> str:
        """What it is called in the replica's logs."""
        spec = self.spec
        return f"{spec.title or spec.id} ({spec.entity_name} {spec.entity_version}), attempt {self.number}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a process is to be, and what forks it."""

    task: Task
    forks: Forks
    #: The key of its environment.
    environment: str


async def prepare(
    attempt: Attempt,
    around: Surroundings,
    log: int,
    progress: Callable[[str], None],
    until_it_ended: contextlib.AsyncExitStack,
) -> Prepared:
    """What there is for an attempt, until the stack unwinds; `progress` hears, in a line, what is waited for.

    `log`: a descriptor of the replica's log. Raises EnvironmentFailure, FetchError, ForkError, OSError.
    """
    spec = attempt.spec
    with os.fdopen(around.build_logs.open(spec.id, attempt.heading), "w", buffering=1) as build_log:

        def say(line: str) -> None:
            build_log.write(f"{line}\n")
            # What is indented is a list, of which nobody has to see each line go by.
            if not line.startswith(" "):
                progress(line[:_LONGEST_PROGRESS])

        try:
            model = await until_it_ended.enter_async_context(around.artifacts.folder(spec.artifact_uri, say))
            environment = await around.environments.for_model(model, say, spec.artifact_uri)
            server = await until_it_ended.enter_async_context(around.forks.of(environment))
        except (EnvironmentFailure, FetchError) as error:
            build_log.write(f"{error}\n")
            raise
        if not server.is_up:
            say("Importing the environment's packages.")
            if not await server.came_up():  # waited for here, where a stop ends the waiting
                raise ForkError(server.last_failure)
    task = Task(
        title=spec.title,
        model=str(model),
        variables={**around.variables, **dict(spec.environment_vars)},
        directory=str(attempt.directory),
        limits=around.limits,
        orphanage=around.orphanage,
        identity=identity(spec, attempt.name, attempt.number, attempt.directory),
        processors=until_it_ended.enter_context(around.processors.some(around.allowance(spec.workload_size).cpus)),
        nice=around.nice,
        collector=around.collector,
    )
    progress("loading model")
    forks = await until_it_ended.enter_async_context(around.templates.of(task, server, log))
    return Prepared(task, forks, environment.key)
