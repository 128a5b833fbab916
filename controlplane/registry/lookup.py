"""The program that asks MLflow: one line of JSON in, one line out, until its input ends. The only file that knows MLflow.

It is a process of its own (`registry.py` runs it) because `import mlflow` takes 1.7 s, which would halt every thread
of the control plane again and again, and 180 MB, which it would never get back; and because MLflow keeps trying for
minutes when its registry is away: a process can be ended.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlplane.domain import ProblemError
from controlplane.registry.location import hide_credentials, loadable, without_credentials
from controlplane.registry.model_registry import (
    MOST_LISTED,
    not_ready,
    unavailable,
    unknown_alias,
    unknown_model,
    unknown_version,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: For MLflow, unless the user's environment says otherwise: no chatter, and no minutes of retries behind an API call.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


@cache
def connect(uri: str) -> MlflowClient:
    """The client of the registry at `uri`; raises MLflow's own exception for a URI of a kind it does not know."""
    from mlflow import MlflowClient  # noqa: PLC0415 - takes 1.7 s

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def look_up(uri: str, model: str, version: str) -> str:
    """As `ModelRegistry.resolve`."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes 1.7 s

    try:
        client = connect(uri)
        found = client.get_model_version(model, version)
        if found.status != "READY":
            raise not_ready(model, version, found.status)
        # For a model of MLflow 3, whose source is `models:/m-…`, this is where that model's files are.
        return loadable(client.get_model_version_download_uri(model, version))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise _unknown(connect(uri), model, version) from error
        raise unavailable(without_credentials(uri), hide_credentials(_first_line(error), uri)) from error


def _unknown(client: MlflowClient, model: str, version: str) -> ProblemError:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes 1.7 s

    try:
        client.get_registered_model(model)
        quote = '"' if "'" in model else "'"
        present = client.search_model_versions(
            f"name={quote}{model}{quote}", max_results=10, order_by=["version_number DESC"]
        )
    except MlflowException:
        return unknown_model(model)
    return unknown_version(model, version, (str(found.version) for found in present))


def look_up_alias(uri: str, model: str, alias: str) -> str:
    """As `ModelRegistry.version_of`."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes 1.7 s

    client = connect(uri)
    try:
        return str(client.get_model_version_by_alias(model, alias).version)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
    raise unknown_alias(model, alias, _aliases(client, model))


def _aliases(client: MlflowClient, model: str) -> dict[str, str]:
    """A registered model's aliases and the versions they stand for."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes 1.7 s

    try:
        return {name: str(version) for name, version in client.get_registered_model(model).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise unknown_model(model) from error


def list_models(uri: str, contains: str) -> list[str]:
    """As `ModelRegistry.models`. MLflow's own filter cannot look for names with quotes, and differs in what case means."""
    client, wanted = connect(uri), contains.casefold()
    found: list[str] = []
    page = client.search_registered_models(max_results=1000)
    while True:
        found += [model.name for model in page if wanted in model.name.casefold()]
        if len(found) >= MOST_LISTED or not page.token:
            return sorted(found)[:MOST_LISTED]
        page = client.search_registered_models(max_results=1000, page_token=page.token)


def list_versions(uri: str, model: str) -> list[dict[str, Any]]:
    """As `ModelRegistry.versions`, with the fields of ModelVersion."""
    client = connect(uri)
    aliases = _aliases(client, model)
    quote = '"' if "'" in model else "'"
    found = client.search_model_versions(
        f"name={quote}{model}{quote}", max_results=MOST_LISTED, order_by=["version_number DESC"]
    )
    return [
        {
            "version": str(each.version),
            "aliases": sorted(alias for alias, version in aliases.items() if version == str(each.version)),
            "status": str(each.status),
        }
        for each in found
    ]


def describe(artifact_uri: str) -> dict[str, str]:
    """As `ModelRegistry.describe`, with the fields of ModelDescription."""
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - takes 1.7 s
    from mlflow.models import Model  # noqa: PLC0415 - takes 1.7 s

    model = Model.load(artifact_uri)
    signature = model.signature.to_dict() if model.signature is not None else {}
    said = {key: signature.get(key) or "" for key in ("inputs", "outputs", "params")}
    example = (model.saved_input_example_info or {}).get("serving_input_path")
    if example:
        path = download_artifacts(artifact_uri=f"{artifact_uri.rstrip('/')}/{example}")
        said["example"] = Path(path).read_text(encoding="utf-8")
    return said


def answer(line: str, uri: str) -> dict[str, Any]:
    """The answer to one question, itself JSON."""
    question = json.loads(line)
    try:
        match question["ask"]:
            case "version":
                return {"version": look_up_alias(uri, question["model"], question["alias"])}
            case "models":
                return {"models": list_models(uri, question["contains"])}
            case "versions":
                return {"versions": list_versions(uri, question["model"])}
            case "description":
                return describe(question["artifact_uri"])
            case _:
                return {"artifact_uri": look_up(uri, question["model"], question["version"])}
    except ProblemError as refusal:
        problem = refusal.problems[0]
        return {"code": problem.code.code, "message": problem.message}
    except Exception as error:  # noqa: BLE001 - whatever a driver raises means that there is no answer
        problem = unavailable(without_credentials(uri), hide_credentials(_first_line(error), uri)).problems[0]
        return {"code": problem.code.code, "message": problem.message}


def main() -> None:
    """Answer questions until the input ends; then end at once, even in the middle of one.

    The first line of the input is the registry's URI, which may hold a password and so is no command line argument.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that nothing that MLflow prints is taken for an answer
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    uri = sys.stdin.readline().rstrip("\n")
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, name="questions", daemon=True).start()
    import mlflow  # noqa: F401, PLC0415 - ahead of the first question

    while True:
        answers.write(json.dumps(answer(lines.get(), uri)) + "\n")
        answers.flush()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    main()
