"""The models that are measured: four features in, one number out; a linear one in several versions, a 100-tree forest, and
one of its user's own code that keeps a processor busy for 5 ms a row.

Run as a process of its own (`python -m benchmarks.models <registry> <folder>`), because MLflow is heavy company.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

from benchmarks.programs import plain_environment

COLUMNS = ("a", "b", "c", "d")
ROW = (5.1, 3.5, 1.4, 0.2)
#: One row, in the form that every server here understands.
BODY = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [ROW]}})
#: The same for MLServer, whose adaptive batching is for the Open Inference Protocol alone.
V2_BODY = json.dumps(
    {
        "parameters": {"content_type": "pd"},
        "inputs": [
            {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [value]}
            for name, value in zip(COLUMNS, ROW, strict=True)
        ],
    }
)
LINEAR_VERSIONS = 3
#: Seconds of processor time that the model `busy` takes for a row.
BUSY = 0.005


def registered(folder: Path) -> str:
    """The URI of a registry in `folder` that holds `linear` 1 to 3, `other` 1, `forest` 1 and `busy` 1."""
    uri = f"sqlite:///{folder}/mlflow.db"
    _python("-m", "benchmarks.models", uri, str(folder))
    return uri


def artifacts(registry: str, model: str, version: str = "1") -> Path:
    """Where a registered model's files are."""
    code = "import sys, mlflow; mlflow.set_tracking_uri(sys.argv[1]); "
    code += "print(mlflow.artifacts.download_artifacts(f'models:/{sys.argv[2]}/{sys.argv[3]}'))"
    return Path(_python("-c", code, registry, model, version).splitlines()[-1])


def _python(*arguments: str) -> str:
    environment = plain_environment(MLFLOW_DISABLE_TELEMETRY="true")
    ran = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise RuntimeError(ran.stderr[-3000:])
    return ran.stdout.strip()


def _register(registry: str, folder: Path) -> None:
    import mlflow
    import mlflow.pyfunc
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression

    mlflow.set_tracking_uri(registry)
    mlflow.create_experiment("benchmarks", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("benchmarks")
    random = np.random.default_rng(7)
    inputs = pd.DataFrame(random.uniform(0.0, 8.0, (1000, len(COLUMNS))), columns=list(COLUMNS))
    target = inputs.to_numpy() @ np.array([1.0, 2.0, 3.0, 4.0]) + random.normal(0.0, 0.5, len(inputs))
    for name, model in (
        *(("linear", LinearRegression().fit(inputs, target * factor)) for factor in range(1, LINEAR_VERSIONS + 1)),
        ("other", LinearRegression().fit(inputs, target * 10)),
        ("forest", RandomForestRegressor(n_estimators=100, random_state=7).fit(inputs, target)),
    ):
        mlflow.sklearn.log_model(
            model,
            name=name,
            registered_model_name=name,
            signature=infer_signature(inputs, model.predict(inputs)),
            input_example=inputs.head(1),
            pip_requirements=mlflow.sklearn.get_default_pip_requirements(),
            skops_trusted_types=["sklearn.tree._tree.Tree"],
        )

    class Busy(mlflow.pyfunc.PythonModel):  # type: ignore[misc] # a class of this function is saved with the model
        """Pure Python, as a user's own code often is."""

        def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> np.ndarray:  # noqa: ARG002
            for _ in range(len(model_input)):
                until = time.thread_time() + BUSY
                while time.thread_time() < until:
                    pass
            return model_input["a"].to_numpy()  # of all that a model may return MLServer takes few

    mlflow.pyfunc.log_model(
        name="busy",
        registered_model_name="busy",
        python_model=Busy(),
        signature=infer_signature(inputs, [1.0]),
        pip_requirements=["mlflow"],
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    _register(sys.argv[1], Path(sys.argv[2]))
