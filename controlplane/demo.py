"""`python -m controlplane.demo`: the two small models of `wye up --demo`, trained and registered if they are not there.

A process of its own, because training needs MLflow and scikit-learn (2 s and 300 MB) and the control plane needs neither.
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from pathlib import Path

#: Registered model → how its prediction differs, so that one can see who answered.
MODELS = {"model-A": 1.0, "model-B": 2.0}
EXPERIMENT = "wye-demo"
#: What serves them, nine requests of ten by the one and one by the other.
ENDPOINT = "multi-model"
CONFIG = {
    "served_entities": [
        {"name": "current", "entity_name": "model-A", "entity_version": "1", "workload_size": "Small"},
        {"name": "challenger", "entity_name": "model-B", "entity_version": "1", "workload_size": "Small"},
    ],
    "traffic_config": {
        "routes": [
            {"served_model_name": "current", "traffic_percentage": 90},
            {"served_model_name": "challenger", "traffic_percentage": 10},
        ]
    },
}
#: A request that both models answer.
EXAMPLE = {"dataframe_records": [{"x": 1.0, "y": 2.0}]}


def main() -> None:
    """Register what is missing in the registry at the given URI."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("registry")
    arguments.add_argument("artifacts", type=Path)
    given = arguments.parse_args()
    prepare()
    register(given.registry, given.artifacts)


def prepare() -> None:
    """Let MLflow be silent in this process."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)


def register(registry: str, artifacts: Path) -> None:
    """See that version 1 of each demo model exists in the registry; `artifacts` is for an embedded one."""
    import mlflow  # noqa: PLC0415 - set up first, see main
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    mlflow.set_tracking_uri(registry)
    client = mlflow.MlflowClient()
    for name, factor in MODELS.items():
        try:
            client.get_model_version(name, "1")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            if mlflow.get_experiment_by_name(EXPERIMENT) is None:
                embedded = registry.startswith("sqlite:")
                mlflow.create_experiment(EXPERIMENT, artifact_location=artifacts.as_uri() if embedded else None)
            mlflow.set_experiment(EXPERIMENT)
            _train(name, factor)


def _train(name: str, factor: float) -> None:
    import mlflow.sklearn  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415
    from mlflow.models import infer_signature  # noqa: PLC0415
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415

    inputs = pd.DataFrame({"x": [0.0, 1.0, 0.0, 2.0], "y": [0.0, 0.0, 1.0, 3.0]})
    model = LinearRegression().fit(inputs, factor * (inputs["x"] + 10 * inputs["y"]))
    mlflow.sklearn.log_model(
        model,
        name=name,
        registered_model_name=name,
        signature=infer_signature(inputs, model.predict(inputs)),
        input_example=inputs.head(1),
        pip_requirements=mlflow.sklearn.get_default_pip_requirements(),  # known, so that MLflow need not find them out
    )


if __name__ == "__main__":
    main()
