"""Makes one MLflow model of several: fetches them, merges what they need, logs and registers the whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from controlplane.bundle.members import BundleError, Member, common_python, members, merged

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

#: The file that every bundle carries.
_SOURCE = Path(__file__).parent / "model.py"

#: Where bundles are logged.
EXPERIMENT = "wye-bundles"

#: As in `model.py`, which cannot be imported from here: it declares itself a model when it is.
_PARAMETER = "model"


@dataclass(frozen=True, slots=True)
class Packaged:
    """A bundle that was made."""

    #: `models:/<name>/<version>`, or where it was logged when it has no name.
    uri: str
    version: str
    #: Name in the bundle → the version it was made from.
    members: Mapping[str, str]
    requirements: tuple[str, ...]


def package(
    models: Sequence[str] | Mapping[str, str],
    *,
    name: str,
    column: str = "",
    requirements: Iterable[str] = (),
    registry: str = "",
    artifacts: Path | None = None,
) -> Packaged:
    """Register a model `name` that holds these ones.

    `models`: URIs such as `models:/a/1` or `x=models:/b@champion`, or names with URIs; the first is the default.
    `name`: the registered model that gets a new version.
    `column`: a column of the input that names the model for each row; besides it, `params={"model": …}` names it.
    `requirements`: decide on packages about which the models do not agree.
    `registry`: an MLflow tracking URI; the one that MLflow would use by itself when empty.
    `artifacts`: where files go when the experiment is new and the registry keeps none itself.

    Raises BundleError, and whatever MLflow raises.
    """
    import mlflow  # noqa: PLC0415 - takes a second, which a refused command line need not
    from mlflow.models import Model  # noqa: PLC0415

    chosen = members(models)
    before = mlflow.get_tracking_uri()
    if registry:
        mlflow.set_tracking_uri(registry)
    try:
        with tempfile.TemporaryDirectory(prefix="wye-bundle-") as directory:
            exact = {member.name: _exact(member.uri) for member in chosen}
            folders = {member.name: _fetched(member, exact[member.name], Path(directory)) for member in chosen}
            needs = merged({each: _requirements(folder) for each, folder in folders.items()}, requirements)
            python = common_python({each: _python(folder) for each, folder in folders.items()})
            metadata = {each: Model.load(str(folder)) for each, folder in folders.items()}
            _use_experiment(artifacts)
            logged = mlflow.pyfunc.log_model(
                name=name,
                registered_model_name=name,
                python_model=str(_SOURCE),
                artifacts={each: str(folder) for each, folder in folders.items()},
                model_config={"models": list(folders), "column": column},
                conda_env=_conda(python, needs),
                signature=_signature(metadata, column),
                input_example=_example(metadata, folders, column),
                metadata={"bundle": exact},
            )
    finally:
        mlflow.set_tracking_uri(before)
    version = str(logged.registered_model_version)
    return Packaged(f"models:/{name}/{version}", version, exact, needs)


def _exact(uri: str) -> str:
    """The URI with a version instead of an alias, so that everybody knows what was packaged."""
    import mlflow  # noqa: PLC0415

    registered, at, alias = uri.partition("@")
    if not at or not registered.startswith("models:/"):
        return uri
    found = mlflow.MlflowClient().get_model_version_by_alias(registered.removeprefix("models:/").strip("/"), alias)
    return f"{registered}/{found.version}"


def _fetched(member: Member, uri: str, directory: Path) -> Path:
    import mlflow.artifacts  # noqa: PLC0415

    # A folder each, called like the member: MLflow puts a bundle's artifacts side by side under the names they have.
    target = directory / member.name
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(target)))


def _requirements(folder: Path) -> list[str]:
    path = folder / "requirements.txt"
    if not path.is_file():
        raise BundleError(f"the model {folder.name} has no requirements.txt: log it again with a recent MLflow")
    lines = [line.partition(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    for line in wanted:
        if line.startswith(("-c", "-r")):
            raise BundleError(f"the requirements of {folder.name} include another file ({line}), which is not followed")
    return wanted


def _python(folder: Path) -> str:
    path = folder / "python_env.yaml"
    return str(yaml.safe_load(path.read_text(encoding="utf-8")).get("python") or "") if path.is_file() else ""


def _conda(python: str, needs: Iterable[str]) -> dict[str, Any]:
    """What MLflow writes `requirements.txt` and `python_env.yaml` from."""
    pythons = [f"python={python}"] if python else []
    return {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": [*pythons, "pip", {"pip": list(needs)}]}


def _use_experiment(artifacts: Path | None) -> None:
    import mlflow  # noqa: PLC0415

    if mlflow.get_experiment_by_name(EXPERIMENT) is None:
        embedded = artifacts is not None and mlflow.get_tracking_uri().startswith("sqlite:")
        mlflow.create_experiment(EXPERIMENT, artifact_location=artifacts.as_uri() if embedded and artifacts else None)
    mlflow.set_experiment(EXPERIMENT)


def _signature(metadata: Mapping[str, Model], column: str) -> ModelSignature:
    """The members' own input if they have the same, all their parameters, and the one that chooses among them."""
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types.schema import ColSpec, DataType, ParamSchema, ParamSpec, Schema  # noqa: PLC0415

    params = {_PARAMETER: ParamSpec(_PARAMETER, DataType.string, next(iter(metadata)))}
    for name, model in metadata.items():
        schema = model.get_params_schema()
        for spec in schema.params if schema is not None else ():
            if spec.name in params and params[spec.name] != spec:
                raise BundleError(f"the parameter {spec.name!r} of {name} means something else in another model")
            params[spec.name] = spec
    inputs = [model.get_input_schema() for model in metadata.values()]
    outputs = [model.get_output_schema() for model in metadata.values()]
    shared = _same(inputs)
    if column and shared is not None:
        if shared.is_tensor_spec():
            raise BundleError("models whose input is a tensor have no columns: route by the parameter instead")
        if column in shared.input_names():
            raise BundleError(f"the models have an input column {column!r} of their own: route by another one")
        shared = Schema([*shared.inputs, ColSpec(DataType.string, column, required=False)])
    return ModelSignature(inputs=shared, outputs=_same(outputs), params=ParamSchema(list(params.values())))


def _same(schemas: Sequence[Any]) -> Any:
    """The schema that all have, or None: then each member checks its own input."""
    return schemas[0] if all(schema is not None and schema == schemas[0] for schema in schemas) else None


def _example(metadata: Mapping[str, Model], folders: Mapping[str, Path], column: str) -> Any:
    """The first member's input example, which is a request for the bundle too."""
    name, model = next(iter(metadata.items()))
    if _same([each.get_input_schema() for each in metadata.values()]) is None:
        return None
    example = model.load_input_example(str(folders[name]))
    if column and example is not None and hasattr(example, "assign"):
        return example.assign(**{column: name})
    return example
