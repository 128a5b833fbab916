"""Bundles made by `wye package` in a real MLflow registry, loaded and asked as any MLflow model is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from controlplane.cli import cli

#: Registers two linear models with the same input, one with strings and parameters, and one that needs another world.
REGISTER = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow, pandas as pd
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
uri, folder = sys.argv[1:]
mlflow.set_tracking_uri(uri)
mlflow.set_experiment(experiment_id=MlflowClient().create_experiment("e", artifact_location=folder + "/artifacts"))
frame = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 0.0, 4.0]})
for name, factor in (("one", 1.0), ("ten", 10.0)):
    model = LinearRegression().fit(frame, factor * frame.x)
    mlflow.sklearn.log_model(
        model, name=name, registered_model_name=name, pip_requirements=["mlflow", "scikit-learn>=1"],
        signature=infer_signature(frame, model.predict(frame)), input_example=frame.head(1),
    )
MlflowClient().set_registered_model_alias("ten", "champion", "1")
open(folder + "/shout.py", "w").write('''
import mlflow
class Shout(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [word.upper() + params["end"] for word in model_input["word"]]
mlflow.models.set_model(Shout())
''')
mlflow.pyfunc.log_model(
    name="shout", python_model=folder + "/shout.py", registered_model_name="shout", pip_requirements=["mlflow"],
    signature=infer_signature(pd.DataFrame({"word": ["a"]}), ["A"], {"end": "!"}),
)
mlflow.pyfunc.log_model(
    name="alien", python_model=folder + "/shout.py", registered_model_name="alien", pip_requirements=["scikit-learn==0.24"],
)
"""

#: Loads a model and predicts, in a process of its own: the suite turns warnings into errors, and MLflow has some.
ASK = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
bundle = mlflow.pyfunc.load_model(sys.argv[2])
answers = []
for data, params in json.loads(sys.argv[3]):
    try:
        answers.append(list(bundle.predict(pd.DataFrame(data), params=params)))
    except Exception as error:
        answers.append(str(error))
print(json.dumps(answers, default=float))
"""

Package = Callable[..., Result]


def run(program: str, *arguments: str) -> str:
    """What a Python program prints."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with a registry and four models."""
    directory = tmp_path_factory.mktemp("bundles")
    run(REGISTER, f"sqlite:///{directory}/mlflow.db", str(directory))
    return directory


@pytest.fixture
def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Runs `wye package` on that state directory."""
    for name in ("WYE_MLFLOW_URI", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["package", "--state-dir", str(folder), *arguments])

    return invoke


def ask(folder: Path, uri: str, *questions: tuple[dict[str, Any], dict[str, Any] | None]) -> list[Any]:
    """The predictions of a registered model, or the words in which it refuses."""
    answers = json.loads(run(ASK, f"sqlite:///{folder}/mlflow.db", uri, json.dumps(questions)))
    return [[round(v, 6) if isinstance(v, float) else v for v in a] if isinstance(a, list) else a for a in answers]


def test_a_bundle_answers_as_its_members_do(folder: Path, package: Package) -> None:
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
        folder,
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


def test_members_may_have_different_inputs_and_parameters(folder: Path, package: Package) -> None:
    """Each checks its own input, integers for doubles included, and gets the parameters that it knows."""
    result = package("--name", "mixed", "models:/one/1", "models:/shout/1")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("mixed version 1 holds\n  one  models:/one/1\n  shout  models:/shout/1\nand needs")
    words = {"word": ["hi"]}
    answers = ask(
        folder,
        "models:/mixed/1",
        ({"x": [2], "y": [0]}, None),
        (words, {"model": "shout"}),
        (words, {"model": "shout", "end": "?"}),
        (words, None),
    )
    assert answers[:3] == [[2.0], ["HI!"], ["HI?"]]
    assert "missing inputs" in answers[3]


def test_what_cannot_be_packaged_is_refused(package: Package) -> None:
    """Conflicts and models that are not there, each with its exit code, and nothing is registered."""
    conflict = package("--name", "never", "models:/one/1", "models:/alien/1")
    assert conflict.exit_code == 1
    assert "scikit-learn: one needs >=1, alien needs ==0.24" in conflict.stderr
    missing = package("--name", "never", "models:/nobody/1")
    assert missing.exit_code == 3
    assert "nobody" in missing.stderr
    unnamed = package("--name", "never", "models:/one/1", "models:/one/1")
    assert unnamed.exit_code == 2
    assert "two models would be called 'one'" in unnamed.stderr
