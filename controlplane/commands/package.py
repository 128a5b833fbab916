"""`wye package`: several registered models in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from controlplane.bundle.members import BundleError, members
from controlplane.commands.connection import recorded_registry
from controlplane.commands.failures import Failure, Unreachable
from controlplane.commands.output import clean, write, write_json
from controlplane.commands.session import output_option, state_dir_option
from controlplane.settings import Settings


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]models:/MODEL/VERSION …")
@click.option("--name", required=True, metavar="MODEL", help="The registered model that gets a new version.")
@click.option("--column", default="", metavar="COLUMN", help="An input column that names the model for each row.")
@click.option(
    "--requirement",
    "requirements",
    multiple=True,
    metavar="REQ",
    help="Decides about a package on which the models do not agree; may be repeated.",
)
@click.option("--mlflow-uri", metavar="URI", help="The registry; that of the running Wye when not given.")
@state_dir_option("State directory of that Wye.")
@output_option
def package(
    models: tuple[str, ...],
    *,
    name: str,
    column: str,
    requirements: tuple[str, ...],
    mlflow_uri: str | None,
    state_dir: Path,
    output: str,
) -> None:
    """Make one registered model of several.

    They then share one process, one environment and one place in an endpoint, which saves the memory of the others. A request names the model with "params": {"model": NAME}, or for each row with a column; the first one is the default.
    A model is called as it is registered, unless NAME= says otherwise. The bundle is a plain MLflow model.

    wye package --name bundle models:/a/1 best=models:/b@champion
    """
    try:
        members(models)
    except BundleError as error:
        raise click.UsageError(str(error)) from error
    settings = Settings.read(os.environ, state_dir=state_dir, mlflow_uri=mlflow_uri or _registry_of(state_dir))
    question = {
        "models": models,
        "name": name,
        "column": column,
        "requirements": requirements,
        "registry": settings.mlflow_uri,
        "artifacts": str(settings.state_dir / "artifacts"),
    }
    made = _asked(question)
    if output == "json":
        write_json(made)
        return
    write(f"{clean(name)} version {made['version']} holds")
    for member, uri in made["members"].items():
        write(f"  {clean(member)}  {clean(uri)}")
    write(f"and needs {', '.join(clean(line) for line in made['requirements'])}")


def _registry_of(state_dir: Path) -> str | None:
    """The registry of the Wye that runs on this state directory, unless the environment names one."""
    if os.environ.get("WYE_MLFLOW_URI") or os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    try:
        return recorded_registry(state_dir) or None
    except Unreachable:
        return None


def _asked(question: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "controlplane.bundle"],
        input=json.dumps(question) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        made: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with exit code {done.returncode}"]
        raise Failure(f"the models were not packaged: {last[0]}") from None
    if "missing" in made:
        raise Failure(made["missing"], exit_code=3)
    if "refused" in made:
        raise Failure(made["refused"])
    return made
