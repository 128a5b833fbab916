"""The registry against a real MLflow, through the process that asks it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from controlplane.domain import ProblemCode, ProblemError
from controlplane.registry import FakeRegistry, ModelRegistry, Registry
from tests.processes import command_line

#: Registers a model of MLflow 3, and versions as older releases and other stores have them.
REGISTER = """
import sqlite3, sys
import mlflow
from mlflow import MlflowClient
uri, folder = sys.argv[1:]
mlflow.set_tracking_uri(uri)
client = MlflowClient()
mlflow.set_experiment(experiment_id=client.create_experiment("e", artifact_location=folder + "/artifacts"))
open(folder + "/model.py", "w").write('''
import mlflow
class Model(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return model_input
mlflow.models.set_model(Model())
''')
for example in (None, ["a", "b"]):
    mlflow.pyfunc.log_model(
        name="m", python_model=folder + "/model.py", registered_model_name="my model's", pip_requirements=[],
        input_example=example,
    )
client.set_registered_model_alias("my model's", "champion", "2")
for name, source in (("old", "file://" + folder + "/old"), ("remote", "s3://bucket/m"), ("late", "s3://bucket/l")):
    client.create_registered_model(name)
    client.create_model_version(name, source)
client.create_registered_model("empty")
with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
    database.execute("UPDATE model_versions SET status = 'PENDING_REGISTRATION' WHERE name = 'late'")
"""


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> str:
    """The URI of a registry with models in it."""
    folder = tmp_path_factory.mktemp("registry")
    where = f"sqlite:///{shutil.copy(mlflow_tables, folder)}"
    # In a process of its own: the suite turns warnings into errors, and MLflow has some.
    program = [sys.executable, "-c", REGISTER, where, folder]
    done = subprocess.run(program, check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return where


#: Seconds that a first question may take: on a busy machine the import of MLflow alone needs a minute.
PATIENCE = 150.0


@pytest.fixture(scope="module")
def registry(uri: str) -> Iterator[Registry]:
    """That registry."""
    opened = Registry(uri, PATIENCE)
    opened.warm()
    yield opened
    opened.close()


def lookups() -> set[psutil.Process]:
    """The processes that this one has running to ask MLflow."""
    return {child for child in psutil.Process().children() if "controlplane.registry.lookup" in command_line(child)}


def refusal(registry: ModelRegistry, model: str, version: str) -> tuple[ProblemCode, str]:
    """The code and the message with which a question is refused."""
    with pytest.raises(ProblemError) as caught:
        registry.resolve(model, version)
    return caught.value.code, str(caught.value)


def test_a_model_is_where_its_files_are(registry: Registry) -> None:
    """A registered model of MLflow 3 resolves to the folder that holds it, which needs no registry to be loaded."""
    first, second = Path(registry.resolve("my model's", "1")), Path(registry.resolve("my model's", "2"))
    assert (first / "MLmodel").is_file()
    assert (second / "MLmodel").is_file()
    assert first != second


@pytest.mark.parametrize(("model", "ending"), [("old", "/old"), ("remote", "s3://bucket/m")])
def test_other_sources(registry: Registry, model: str, ending: str) -> None:
    """File URIs become paths; what lies elsewhere keeps its URI."""
    found = registry.resolve(model, "1")
    assert found.endswith(ending)
    assert not found.startswith("file:")


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("my model's", "3", "model \"my model's\" has no version '3'; it has 1, 2"),
        ("empty", "1", "model 'empty' has no version '1'; it has no versions yet"),
        ("absent", "1", "no model named 'absent' is registered; check the name, or register the model first"),
    ],
)
def test_what_is_not_registered_does_not_exist(registry: Registry, model: str, version: str, message: str) -> None:
    """Unknown models and versions are named, with the versions there are."""
    assert refusal(registry, model, version) == (ProblemCode.RESOURCE_DOES_NOT_EXIST, message)


def test_a_version_that_is_not_ready_is_refused(registry: Registry) -> None:
    """A version that is still being registered cannot be served yet."""
    code, message = refusal(registry, "late", "1")
    assert code is ProblemCode.INVALID_PARAMETER_VALUE
    assert "is PENDING_REGISTRATION in the registry" in message


def test_a_killed_process_is_started_again(uri: str) -> None:
    """When the process that asks MLflow is gone, the next question starts another one; close leaves none."""
    before = lookups()
    registry = Registry(uri, PATIENCE)
    registry.resolve("remote", "1")
    (child,) = lookups() - before
    child.kill()
    psutil.wait_procs([child])
    assert registry.resolve("remote", "1") == "s3://bucket/m"
    registry.close()
    assert lookups() == before


def test_the_process_ends_with_its_parent(uri: str) -> None:
    """A control plane that is killed leaves no process behind, even if MLflow is still being imported."""
    program = (
        "import os, sys; from controlplane.registry import Registry; registry = Registry(sys.argv[1]);"
        "registry.warm(); print(registry._child.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", program, uri], stdout=subprocess.PIPE, check=True)
    try:
        child = psutil.Process(int(done.stdout))
    except psutil.NoSuchProcess:
        return
    assert psutil.wait_procs([child], timeout=30)[1] == []


def test_a_registry_that_is_away_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing listens there, the answer is TEMPORARILY_UNAVAILABLE with the reason and without credentials."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = Registry("http://me:s3cret@127.0.0.1:1", PATIENCE)
    code, message = refusal(registry, "m", "1")
    registry.close()
    assert code is ProblemCode.TEMPORARILY_UNAVAILABLE
    assert message.startswith("the MLflow registry at http://127.0.0.1:1 does not answer: ")
    assert "Connection refused" in message
    assert "s3cret" not in message


def test_a_registry_that_keeps_silent_is_not_waited_for() -> None:
    """A question has a deadline, after which the process is ended."""
    before = lookups()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # which accepts, and says nothing
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        registry = Registry(uri, answer_seconds=0.1)
        code, message = refusal(registry, "m", "1")
    assert code is ProblemCode.TEMPORARILY_UNAVAILABLE
    assert message == f"the MLflow registry at {uri} does not answer: no answer within 0.1 s"
    assert lookups() == before


def test_the_fake_refuses_in_the_same_words(registry: Registry) -> None:
    """Tests on FakeRegistry see what users see."""
    fake = FakeRegistry({"my model's": {"1": "/1", "2": "/2"}, "empty": {}})
    for question in (("my model's", "3"), ("empty", "1"), ("absent", "1")):
        assert refusal(fake, *question) == refusal(registry, *question)
    fake.away = "it sleeps"
    assert refusal(fake, "m", "1")[0] is ProblemCode.TEMPORARILY_UNAVAILABLE


def test_an_alias_stands_for_a_version(registry: Registry) -> None:
    """An alias is looked up anew each time; one that is not there is named with those that are."""
    assert registry.version_of("my model's", "champion") == "2"
    fake = FakeRegistry({"my model's": {"1": "/1", "2": "/2"}})
    fake.aliases = {"my model's": {"champion": "2"}}
    for asked in (registry, fake):
        assert asked.version_of("my model's", "champion") == "2"
        for model, alias, message in (
            ("my model's", "loser", "model \"my model's\" has no alias '@loser'; it has @champion"),
            (
                "absent",
                "champion",
                "no model named 'absent' is registered; check the name, or register the model first",
            ),
        ):
            with pytest.raises(ProblemError) as caught:
                asked.version_of(model, alias)
            assert (caught.value.code, str(caught.value)) == (ProblemCode.RESOURCE_DOES_NOT_EXIST, message)


def test_a_model_describes_itself(registry: Registry) -> None:
    """Signature and example are what MLflow stored with the model, as text; what it has not is empty."""
    first = registry.describe(registry.resolve("my model's", "1"))
    second = registry.describe(registry.resolve("my model's", "2"))
    assert json.loads(first.inputs) == [{"type": "string", "required": True}]
    assert first.example == ""
    assert json.loads(second.example) == {"inputs": ["a", "b"]}
    with pytest.raises(ProblemError, match="does not answer"):
        registry.describe("/nowhere")
