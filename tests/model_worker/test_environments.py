"""Environments that are built: by the real uv, for models with other requirements than those of the base environment."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv

from model_worker.environments import BASE, EnvironmentFailure, Environments, Mode
from tests.model_worker.hosting import Control, RunningHost, predict
from tests.model_worker.saved_models import SavedModels

#: uv asks for packages once, and never for a whole Python.
VARIABLES = {"UV_PYTHON_DOWNLOADS": "never", "UV_HTTP_RETRIES": "0"}


@pytest.fixture(scope="session")
def pypi(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips what needs a package from PyPI where that is not reachable."""
    target = tmp_path_factory.mktemp("pypi")
    command = [uv.find_uv_bin(), "pip", "install", "--target", str(target), "six==1.16.0"]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except subprocess.SubprocessError as error:
        pytest.skip(f"PyPI is not reachable: {error} {error.stderr!s:.300}")


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    """A host of this module's own."""
    running = RunningHost(variables=VARIABLES)
    yield running
    running.end()


def model(models: SavedModels, name: str, *needs: str) -> Path:
    """A model that says which release of `six` it runs with, and needs these packages."""
    path = models.code(name, body="import six; return [six.__version__, sys.prefix]")
    (path / "requirements.txt").write_text("\n".join(["mlflow", *needs]))
    return path


@pytest.mark.usefixtures("pypi")
def test_a_model_that_needs_another_release_gets_it(host: RunningHost, control: Control, models: SavedModels) -> None:
    """Replicas of two models that ask for the same at once share one environment, built once; others keep the base one."""
    first, second = model(models, "needs_six", "six==1.16.0"), model(models, "needs_six_too", "six==1.16.0")
    for number in range(4):
        control.start(f"r{number}", second if number == 3 else first)
    states = [control.until(f"r{number}", "READY", "FAILED") for number in range(4)]
    assert [state["message"] for state in states] == [""] * 4
    answers = [predict(state, {"inputs": [1]}) for state in states]
    [built] = (host.directory / "environments").glob("*.done")
    assert answers == [["1.16.0", str(built.with_suffix(""))]] * 4
    assert predict(control.ready("base", models("linear")), {"dataframe_records": [{"a": 1.0, "b": 2.0}]})
    assert any(message.startswith("Resolved") for message in control.messages)
    for number in range(4):
        log = control.logs(f"r{number}", kind="build")
        assert log.count("Creating virtual environment") == 1
        assert "This model needs six==1.16.0 (installed: " in log
        assert " + six==1.16.0" in log
    assert "which meets its" in control.logs("base", kind="build")


def test_a_need_that_nobody_can_meet_is_told_in_the_resolvers_words(control: Control, models: SavedModels) -> None:
    """No release, no replica: the update fails at once, and the build log says the same."""
    control.start("r", model(models, "needs_the_impossible", "six==1.16.0", "six==1.15.0"))
    failed = control.until("r", "FAILED", "READY")
    assert failed["message"].startswith("This model needs six==1.16.0 (installed: ")
    assert "you require six==1.16.0 and six==1.15.0" in failed["message"]
    assert failed["permanent"]
    assert failed["message"] in control.logs("r", kind="build")


def test_a_replica_can_be_stopped_while_its_environment_is_built(control: Control, models: SavedModels) -> None:
    """The stop does not wait for uv, which waits for a package that never comes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        wheel = f"http://127.0.0.1:{silent.getsockname()[1]}/six-1.15.0-py2.py3-none-any.whl"
        control.start("r", model(models, "needs_time", f"six @ {wheel}"))
        while not any(message.startswith("Environment ") for message in control.messages):
            control.hear()
        control.stop("r", grace=1000)
        control.until_gone("r")


def fail(model: Path, mode: Mode = Mode.AUTO, directory: Path | None = None, **variables: str) -> EnvironmentFailure:
    """Why there is no environment for the model in a directory."""

    async def scenario() -> None:
        environments = Environments(directory or model / "environments", mode, VARIABLES | variables)
        await environments.for_model(model, lambda _: None)

    with pytest.raises(EnvironmentFailure) as failure:
        asyncio.run(scenario())
    return failure.value


def test_an_index_that_cannot_be_reached_is_no_fault_of_the_model(tmp_path: Path) -> None:
    """Without network the message says what was needed and what can be done, and another attempt makes sense."""
    (tmp_path / "requirements.txt").write_text("six==1.16.0")
    nowhere = fail(tmp_path, PIP_INDEX_URL="http://127.0.0.1:9/simple", UV_NO_CACHE="1")
    assert "the package index cannot be reached" in str(nowhere)
    assert "WYE_ENVIRONMENTS=local" in str(nowhere)
    assert not nowhere.permanent


@pytest.mark.parametrize(
    ("python", "words"),
    [("3.97.1", "there is no Python 3.97 on this machine"), ("3.8.10", "Wye's worker runs on Python 3.11 or later")],
)
def test_a_python_that_cannot_be_had_is_named(tmp_path: Path, python: str, words: str) -> None:
    """The message names the Python that the model was saved with."""
    (tmp_path / "python_env.yaml").write_text(f"python: {python}")
    failure = fail(tmp_path)
    assert f"This model needs Python {python} (this is " in str(failure)
    assert words in str(failure)
    assert failure.permanent


@pytest.mark.usefixtures("pypi")
def test_an_environment_does_not_fit_on_its_disk(tmp_path: Path, small_disk: Path) -> None:
    """The message says so and where, another attempt makes sense, and nothing is left that takes up room."""
    (tmp_path / "requirements.txt").write_text("six==1.16.0")
    failure = fail(tmp_path, directory=small_disk)
    assert f"because a disk is full, of {small_disk}" in str(failure)
    assert "os error 28" in str(failure)
    assert not failure.permanent
    assert [path for path in small_disk.iterdir() if path.is_dir()] == []


def test_requirements_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    """A file that is no YAML is named."""
    (tmp_path / "python_env.yaml").write_text("python: [")
    assert "requirements cannot be read" in str(fail(tmp_path))


def test_the_setting_decides(tmp_path: Path) -> None:
    """`local` runs everything in the base environment; `uv` builds even where that would do."""
    (tmp_path / "requirements.txt").write_text("six==9.9")
    local = Environments(tmp_path / "environments", Mode.LOCAL, {})
    assert asyncio.run(local.for_model(tmp_path, lambda _: None)) == BASE
    (tmp_path / "requirements.txt").write_text("six")
    assert "WYE_ENVIRONMENTS is uv" in str(fail(tmp_path, Mode.UV, UV_OFFLINE="1", UV_NO_CACHE="1"))
