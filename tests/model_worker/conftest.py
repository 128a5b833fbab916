"""Fixtures of the worker's tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_worker.hosting import Control, RunningHost
from tests.model_worker.saved_models import SavedModels


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
