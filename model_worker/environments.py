"""The Python environments that models run in: the host's own, and those that `uv` builds for models that need another.

The rules are told to users in `docs/environments.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import os
import platform
import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from uv import find_uv_bin

from model_worker import indexes, requirements
from model_worker.full_disk import is_full, says_full
from model_worker.made_once import MadeOnce, Say
from model_worker.requirements import Needs
from model_worker.variables import install_variables

#: What a replica imports besides its model, whatever environment it is in.
WORKER_REQUIREMENTS = ("httptools", "mlflow", "numpy", "orjson", "pandas", "uvloop")

#: The worker is written for this Python and later ones.
OLDEST_PYTHON = (3, 11)

#: What uv says when it could not ask for a package, which another time it may.
_OUT_OF_REACH = re.compile(
    r"error sending request|failed to fetch|dns error|connection refused|connect error|timed out|timeout"
    r"|network was disabled|network connectivity is disabled|temporary failure",
    re.IGNORECASE,
)

#: uv's last lines that make up the message of a failure.
_LAST_LINES = 30


class Mode(StrEnum):
    """Which models get an environment of their own (`WYE_ENVIRONMENTS`)."""

    #: Those whose requirements the base environment does not meet.
    AUTO = "auto"
    #: None.
    LOCAL = "local"
    #: All that have requirements.
    UV = "uv"


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python interpreter with its packages."""

    key: str
    python: str


#: The packages that Wye itself was installed with.
BASE = Environment("base", sys.executable)


class EnvironmentFailure(Exception):  # noqa: N818 - "EnvironmentError" is Python's old name for OSError
    """There is no environment for a model; the text says why, and what to change."""

    def __init__(self, message: str, *, permanent: bool = True) -> None:
        """`permanent`: another attempt would fail in the same way."""
        super().__init__(message)
        self.permanent = permanent


class Environments:
    """Chooses each model's environment, and builds those that there are not yet."""

    def __init__(self, directory: Path, mode: Mode, variables: Mapping[str, str]) -> None:
        """`variables`: the host's own, which say where packages come from."""
        self._directory = directory
        self._made = MadeOnce(directory)
        self._mode = mode
        self._variables = dict(variables)

    async def for_model(self, folder: Path, say: Say, uri: str = "") -> Environment:
        """The environment that runs the model in `folder`; `say` hears why it is that one, and how it is built.

        `uri`: where the model comes from, by which `tidy` knows it. Raises EnvironmentFailure.
        """
        if self._mode is Mode.LOCAL:
            say("The model runs in Wye's own environment: WYE_ENVIRONMENTS is local.")
            return BASE
        needs, reasons = await asyncio.to_thread(_compare, folder)
        if not needs.lines and not needs.python:
            say("The model runs in Wye's own environment: it has no requirements.txt and no python_env.yaml.")
            return BASE
        if not reasons and self._mode is Mode.AUTO:
            say(f"The model runs in Wye's own environment, which meets its {len(needs.lines)} requirements.")
            return BASE
        why = f"This model needs {', '.join(reasons)}" if reasons else "WYE_ENVIRONMENTS is uv"
        say(f"The model gets an environment of its own. {why}.")
        try:
            return await self._built(needs, why, say, _user(uri))
        except OSError as error:
            if not is_full(error):
                raise
            full = f"{why}, and an environment cannot be built because the disk is full that has {self._directory}."
            raise EnvironmentFailure(full, permanent=False) from error

    async def tidy(self, uris: Iterable[str], max_age: float) -> list[str]:
        """Remove what was built for none of the models with these `uris` and for nobody else in `max_age` seconds; what it was.

        So is what was left half built.
        """
        return await self._made.tidy({_user(uri) for uri in uris}, max_age)

    async def close(self) -> None:
        """Give up what is being built."""
        await self._made.close()

    async def _built(self, needs: Needs, why: str, say: Say, user: str) -> Environment:
        python = requirements.minor(needs.python or platform.python_version())
        if _numbers(python) < OLDEST_PYTHON:
            raise EnvironmentFailure(
                f"{why}, and Wye's worker runs on Python {'.'.join(map(str, OLDEST_PYTHON))} or later. Log the model "
                "again with a later Python, or set WYE_ENVIRONMENTS=local to try it in Wye's own environment."
            )
        plan = _Plan(needs, python, why, await asyncio.to_thread(_raised, needs))
        path = await self._made.get(
            plan.key, lambda directory, lock, tell: self._build(plan, directory, lock, tell), say, user
        )
        return Environment(plan.key, str(path / "bin" / "python"))

    async def _build(self, plan: _Plan, directory: Path, lock: int, say: Say) -> None:
        needs = plan.needs
        own = plan.python == requirements.minor(platform.python_version())
        say(f"Environment {plan.key}: Python {plan.python} with the packages of {needs.folder.name}")
        python = sys.executable if own else plan.python
        await self._uv(plan, lock, say, "venv", "--no-project", "--allow-existing", "--python", python, str(directory))
        for name, lines in (
            ("requirements.txt", needs.lines),
            ("constraints.txt", needs.constraints),
            ("worker.txt", plan.worker),
            ("overrides.txt", plan.raised),
            # Where a model leaves the choice, it gets the versions that Wye itself has, which are the tested ones.
            ("lock.txt", _installed_versions()),
        ):
            (directory / f"wye-{name}").write_text("\n".join([*lines, ""]))
        for line in plan.raised:
            say(f"{line}, which is Wye's own, loads the model in place of the older one that it was saved with")
        interpreter, locked = str(directory / "bin" / "python"), str(directory / "wye-lock.txt")
        options = ["--python", interpreter, "--no-header", "--no-annotate", "--emit-index-url", "--emit-find-links"]
        for option, lines in (("constraint", needs.constraints), ("override", plan.raised)):
            options += [f"--{option}", str(directory / f"wye-{option}s.txt")] if lines else []
        wanted = [str(directory / "wye-requirements.txt"), str(directory / "wye-worker.txt")]
        await self._uv(plan, lock, say, "pip", "compile", *options, "-o", locked, *wanted)
        await self._uv(plan, lock, say, "pip", "sync", "--python", interpreter, locked)

    async def _uv(self, plan: _Plan, lock: int, say: Say, *arguments: str) -> None:
        """Run uv in the model's folder, telling what it says.

        Raises EnvironmentFailure with its last words.
        """
        files = indexes.pip_files(self._variables)
        settings = install_variables(self._variables) | indexes.uv_variables(self._variables, files)
        process = await asyncio.create_subprocess_exec(
            find_uv_bin(),
            *arguments,
            cwd=plan.needs.folder,
            # A build backend's debris, and its secrets, are none of ours; colours and bars are for terminals.
            env=settings | {"NO_COLOR": "1", "UV_NO_PROGRESS": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=[lock],
            start_new_session=True,
        )
        assert process.stderr is not None
        said: list[str] = []
        try:
            async for line in process.stderr:
                said.append(line.decode(errors="replace").rstrip())
                if said[-1]:
                    say(said[-1])
            code = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if code != 0:
            raise _failure(plan, arguments[0], said, self._directory)


@dataclass(frozen=True, slots=True)
class _Plan:
    """An environment to be."""

    needs: Needs
    #: `3.12`.
    python: str
    why: str
    #: Packages that get Wye's own version whatever the model asks for.
    raised: tuple[str, ...]

    @property
    def worker(self) -> tuple[str, ...]:
        """What the worker itself needs there."""
        loads = {"mlflow", "mlflow-skinny"} & requirements.names(self.needs)
        return tuple(name for name in WORKER_REQUIREMENTS if name != "mlflow" or not loads)

    @property
    def key(self) -> str:
        """The same for models that need the same."""
        parts = [self.python, sys.executable, *self.needs.lines, "", *self.needs.constraints, "", *self.worker]
        parts += ["", *self.raised]
        if requirements.refers_to_files(self.needs):  # the same words may mean other files in another folder
            parts += ["", str(self.needs.folder.resolve())]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def _compare(folder: Path) -> tuple[Needs, list[str]]:
    try:
        needs = requirements.read(folder)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise EnvironmentFailure(f"the model's requirements cannot be read: {error}") from error
    return needs, requirements.unmet(needs, platform.python_version())


def _raised(needs: Needs) -> tuple[str, ...]:
    """MLflow's packages at Wye's own version, where the model pins an older one.

    MLflow is what loads the model and no part of it, it loads what its older releases have saved, and the worker is
    written for this one.
    """
    lines = []
    for name in ("mlflow", "mlflow-skinny", "mlflow-tracing"):
        here, pin = requirements.installed(name), requirements.pinned(needs, name)
        if here is not None and pin is not None and pin < Version(here):
            lines.append(f"{name}=={here}")
    return tuple(lines)


def _installed_versions() -> list[str]:
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name and distribution.read_text("direct_url.json") is None:
            found[canonicalize_name(name)] = f"{Requirement(name).name}=={distribution.version}"
    return [found[name] for name in sorted(found)]


def _user(uri: str) -> str:
    """What stands for a model in a list of users: a URI may hold a password, or a space."""
    return hashlib.blake2b(uri.encode(), digest_size=12).hexdigest() if uri else ""


def _failure(plan: _Plan, step: str, said: Sequence[str], directory: Path) -> EnvironmentFailure:
    told = [line for line in said if not line.startswith("warning:")][-_LAST_LINES:]
    # What the lines begin with means something only on a terminal.
    words = " ".join(re.sub(r"^(error:|  cause:|[\s│├╰─▶×]+)\s*", "", line) for line in told).strip()
    words = words or "uv ended without a word"
    unreached, full = _OUT_OF_REACH.search(words) is not None, says_full(words)
    if full:
        what = f"an environment cannot be built because a disk is full, of {directory} or of uv's cache"
    elif step == "venv":
        what = f"there is no Python {plan.python} on this machine that could be used"
    elif unreached:
        what = "an environment cannot be built because the package index cannot be reached"
        words += (
            ". Give the worker host access to one (UV_DEFAULT_INDEX or PIP_INDEX_URL), use an image that has these "
            "packages, or set WYE_ENVIRONMENTS=local"
        )
    else:
        what = "no environment could be built"
    return EnvironmentFailure(f"{plan.why}, and {what}: {words.rstrip('.')}.", permanent=not unreached and not full)


def _numbers(python: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", python))
