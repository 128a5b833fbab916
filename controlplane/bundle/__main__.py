"""`python -m controlplane.bundle`: packages what a line of JSON on standard input says, answers with one on standard output.

A process of its own for `wye package`, because MLflow takes seconds to import, prints, and has warnings.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from controlplane.bundle import BundleError, package


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """What was packaged, or why not."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - not before its chatter is off

    try:
        made = package(
            question["models"],
            name=question["name"],
            column=question["column"],
            requirements=question["requirements"],
            registry=question["registry"],
            artifacts=Path(question["artifacts"]),
        )
    except BundleError as error:
        return {"refused": str(error)}
    except MlflowException as error:
        missing = error.error_code == "RESOURCE_DOES_NOT_EXIST"
        return {"missing" if missing else "refused": error.message.splitlines()[0]}
    return asdict(made)


def main() -> None:
    """Answer one question."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that nothing that MLflow prints is taken for the answer
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    warnings.simplefilter("ignore")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    answers.write(json.dumps(answer(json.loads(sys.stdin.readline()))))
    answers.close()


if __name__ == "__main__":
    main()
