"""Fixtures of the worker's tests."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.model_worker.hosting import Control, RunningHost
from tests.model_worker.saved_models import SavedModels
from tests.model_worker.serving import EchoModel, Running


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path, for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="wye-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> SavedModels:
    """Saved models by name."""
    return SavedModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def host() -> Iterator[RunningHost]:
    """A host that tests share, because its fork server takes seconds to import everything."""
    running = RunningHost(variables={"HOST_SECRET": "hush", "MLFLOW_TRACKING_URI": "sqlite:////tmp/none.db"})
    yield running
    running.end()


@pytest.fixture
def control(host: RunningHost) -> Iterator[Control]:
    """A control connection to the shared host; what it leaves behind is stopped."""
    control = host.control()
    yield control
    for replica_id in list(control.replicas):
        control.stop(replica_id, grace=5)
    for replica_id in list(control.replicas):
        control.until_gone(replica_id)
    control.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Starts servers, which are finished after the test."""
    started: list[Running] = []

    def start(model: Any = None, **bounds: float) -> Running:
        started.append(Running(model or EchoModel(), **bounds).__enter__())
        return started[-1]

    yield start
    for running in started:
        running.__exit__(None, None, None)
