"""A disk that is full of models: the reason is told, nothing half is left, and with room again the model is served."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.model_worker.hosting import RunningHost, predict
from tests.model_worker.saved_models import SavedModels

ROW = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, about MLflow
def test_a_model_does_not_fit_on_the_disk(
    models: SavedModels, mlflow_tables: Path, tmp_path: Path, small_disk: Path
) -> None:
    """Its replica fails with words for it and may be tried again; then there is room."""
    from mlflow import MlflowClient

    registry = f"sqlite:///{shutil.copy(mlflow_tables, tmp_path)}"
    client = MlflowClient(registry)
    run = client.create_run(client.create_experiment("e", str(tmp_path / "artifacts"))).info
    large = shutil.copytree(models("linear"), tmp_path / "large")
    (large / "weights").write_bytes(b"w" * (2 << 20))
    client.log_artifacts(run.run_id, str(large), "large")
    uri = f"runs:/{run.run_id}/large"
    host = RunningHost("--artifacts-dir", str(small_disk), variables={"MLFLOW_TRACKING_URI": registry})
    try:
        control = host.control()
        control.start("r", uri)
        failed = control.until("r", "FAILED", "READY")
        assert failed["message"].startswith(f"{uri} cannot be fetched because the disk is full that has {small_disk}")
        assert not failed["permanent"]
        assert [path for path in small_disk.iterdir() if path.is_dir()] == []
        subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
        assert round(predict(control.ready("r", uri), ROW)[0], 6) == 4.0
    finally:
        host.end()
