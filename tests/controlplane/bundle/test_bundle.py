"""Bundles made by `wye package` in a real MLflow registry, loaded and asked as any MLflow model is."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from controlplane.bundle.members import BundleError
from controlplane.bundle.packaging import package as package_here
from controlplane.cli import cli

SHOUT = """
import mlflow
class Shout(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [word.upper() + params["end"] for word in model_input["word"]]
mlflow.models.set_model(Shout())
"""

Package = Callable[..., Result]


def quiet() -> warnings.catch_warnings[Any]:
    """Where MLflow is at work: it has warnings of its own, which the suite would turn into errors."""
    return warnings.catch_warnings(record=True, action="always")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> Iterator[Path]:
    """A state directory with a registry and four models; it is MLflow's own registry meanwhile."""
    import mlflow

    directory = tmp_path_factory.mktemp("bundles")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{shutil.copy(mlflow_tables, directory)}")
    try:
        with quiet():
            register(directory)
        yield directory
    finally:
        mlflow.set_tracking_uri(before)


def register(directory: Path) -> None:
    """Two linear models with the same input, one with strings and parameters, and one that needs another world."""
    import mlflow
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression

    client = mlflow.MlflowClient()
    mlflow.set_experiment(experiment_id=client.create_experiment("e", artifact_location=f"{directory}/artifacts"))
    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 0.0, 4.0]})
    for name, factor in (("one", 1.0), ("ten", 10.0)):
        model = LinearRegression().fit(frame, factor * frame.x)
        mlflow.sklearn.log_model(
            model,
            name=name,
            registered_model_name=name,
            pip_requirements=["mlflow", "scikit-learn>=1"],
            signature=infer_signature(frame, model.predict(frame)),
            input_example=frame.head(1),
        )
    client.set_registered_model_alias("ten", "champion", "1")
    code = directory / "shout.py"
    code.write_text(SHOUT)
    signature = infer_signature(pd.DataFrame({"word": ["a"]}), ["A"], {"end": "!"})
    for name, needs, given in (("shout", "mlflow", signature), ("alien", "scikit-learn==0.24", None)):
        mlflow.pyfunc.log_model(
            name=name, python_model=str(code), registered_model_name=name, pip_requirements=[needs], signature=given
        )


@pytest.fixture
def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Runs `wye package` on that state directory."""
    for name in ("WYE_MLFLOW_URI", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["package", "--state-dir", str(folder), *arguments])

    return invoke


def ask(uri: str, *questions: tuple[dict[str, Any], dict[str, Any] | None]) -> list[Any]:
    """The predictions of a registered model, or the words in which it refuses."""
    import mlflow
    import pandas as pd

    answers: list[Any] = []
    with quiet():
        bundle = mlflow.pyfunc.load_model(uri)
        for data, params in questions:
            try:
                predictions = bundle.predict(pd.DataFrame(data), params=params)
                answers.append([round(float(v), 6) if not isinstance(v, str) else v for v in predictions])
            except mlflow.MlflowException as error:
                answers.append(str(error))
    return answers


def test_a_bundle_answers_as_its_members_do(package: Package) -> None:
    """By parameter, by column row for row, and by the first member; the bundle says what it was made of."""
    result = package(
        "--name", "numbers", "--column", "which", "-o", "json", "models:/one/1", "best=models:/ten@champion"
    )
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert made["members"] == {"one": "models:/one/1", "best": "models:/ten/1"}
    assert made["uri"] == "models:/numbers/1"
    assert made["requirements"] == ["mlflow", "scikit-learn>=1"]
    rows = {"x": [1.0, 2.0, 3.0], "y": [0.0, 0.0, 0.0]}
    assert ask(
        made["uri"],
        (rows, None),
        (rows, {"model": "best"}),
        (rows | {"which": ["best", "one", None]}, None),
        (rows | {"which": ["best"] * 3}, {"model": "one"}),
        (rows, {"model": "worst"}),
    ) == [
        [1.0, 2.0, 3.0],
        [10.0, 20.0, 30.0],
        [10.0, 2.0, 3.0],
        [10.0, 20.0, 30.0],
        "there is no model 'worst' in this bundle; it has one, best",
    ]


@pytest.mark.usefixtures("folder")
def test_members_may_have_different_inputs_and_parameters() -> None:
    """Each checks its own input, integers for doubles included, and gets the parameters that it knows."""
    with quiet():
        made = package_here(["models:/one/1", "models:/shout/1"], name="mixed")
    assert made.members == {"one": "models:/one/1", "shout": "models:/shout/1"}
    words = {"word": ["hi"]}
    answers = ask(
        made.uri,
        ({"x": [2], "y": [0]}, None),
        (words, {"model": "shout"}),
        (words, {"model": "shout", "end": "?"}),
        (words, None),
    )
    assert answers[:3] == [[2.0], ["HI!"], ["HI?"]]
    assert "missing inputs" in answers[3]


def test_what_cannot_be_packaged_is_refused(package: Package) -> None:
    """Conflicts and models that are not there, the command line with exit codes, and nothing is registered."""
    with pytest.raises(BundleError, match=r"scikit-learn: one needs >=1, alien needs ==0\.24"):
        package_here(["models:/one/1", "models:/alien/1"], name="never")
    missing = package("--name", "never", "models:/nobody/1")
    assert missing.exit_code == 3
    assert "nobody" in missing.stderr
    unnamed = package("--name", "never", "models:/one/1", "models:/one/1")
    assert unnamed.exit_code == 2
    assert "two models would be called 'one'" in unnamed.stderr
