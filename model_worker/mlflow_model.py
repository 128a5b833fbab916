"""MLflow models as `Model`s. The only file of the worker that imports MLflow."""

from __future__ import annotations

import os
import re
import sys
import traceback
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import mlflow.artifacts
import mlflow.pyfunc
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from model_worker.codec import Format, InputError, Payload
from model_worker.model import ModelError


def fetch(artifact_uri: str, directory: Path) -> Path:
    """The model's files, downloaded to `directory`.

    Raises whatever MLflow and the artifact store raise.
    """
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=artifact_uri, dst_path=str(directory)))


def load(path: Path) -> MlflowModel:
    """The model in this directory.

    Raises whatever MLflow and the model's own code raise.
    """
    # A fork's copy of the generator would give the same "random" numbers in every replica.
    np.random.seed()
    # MLflow and the flavours behave differently where they serve; MLflow's own server says so in the same way.
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    # Whether the requirements fit is for whoever chose this environment; checking costs a third of the loading time.
    return MlflowModel(mlflow.pyfunc.load_model(str(path), suppress_warnings=True))


class MlflowModel:
    """A pyfunc model of any flavour: the same inputs and the same predictions as in MLflow's scoring server."""

    def __init__(self, model: mlflow.pyfunc.PyFuncModel) -> None:
        self._model = model
        self._input_schema = model.metadata.get_input_schema()
        self._params_schema = model.metadata.get_params_schema()
        self._typed_by_hints = model.metadata._is_signature_from_type_hint()

    @property
    def version(self) -> str:
        """The version of MLflow."""
        return str(mlflow.__version__)

    def predict(self, payload: Payload) -> Any:
        """The predictions for one payload.

        Raises InputError, ModelError.
        """
        data, params = self._input(payload)
        try:
            return self._model.predict(data, params=params)
        except Exception as error:
            if isinstance(error, MlflowException) and _is_about_input(error):
                raise InputError(_words_for_sender(error)) from error
            # The stack is for whoever wrote the model, and it is in the log; the sender gets the exception's words.
            traceback.print_exc(file=sys.stderr)
            words = error.message if isinstance(error, MlflowException) else str(error)
            raise ModelError(f"the model failed with {type(error).__name__}: {words}") from error

    def _input(self, payload: Payload) -> tuple[Any, Any]:
        try:
            return self._parse(payload)
        except MlflowException as error:
            raise InputError(_words_for_sender(error)) from error
        except Exception as error:
            raise InputError(f"the input cannot be read as {payload.format}: {type(error).__name__}") from error

    def _parse(self, payload: Payload) -> tuple[Any, Any]:
        match payload.format:
            case Format.CSV:
                return scoring_server.parse_csv_input(StringIO(payload.value), self._input_schema), None
            case Format.PARQUET:
                return scoring_server.parse_parquet_input(BytesIO(payload.value)), None
            case Format.UNWRAPPED:
                data, params = scoring_server._split_data_and_params_for_llm_input(payload.value, self._params_schema)
                return data, params
            case _ if not self._typed_by_hints:
                parsed = scoring_server.infer_and_parse_data({str(payload.format): payload.value}, self._input_schema)
                return parsed, payload.params
            case Format.INPUTS:
                return payload.value, payload.params
            case _:
                raise InputError(f"this model's input is typed: send it under 'inputs', not {payload.format}")


def _is_about_input(error: MlflowException) -> bool:
    """Whether MLflow refused the input before the model saw it."""
    return getattr(error, "error_class", None) == "SCHEMA_ENFORCEMENT_FAILED" or error.message.startswith(
        ("Failed to enforce", "Invalid input", "Parameters validation", "Invalid parameters", "Incompatible")
    )


#: Where MLflow's messages repeat the input, and what is left of each.
_REPETITIONS = (
    (re.compile(r"(of data|convert data|for data|of) ([`']).*\2 (with|to)\b", re.DOTALL), r"\1 the input \3"),
    (re.compile(r"(Failed to convert column .*? to type '[^']*')\. Error: .*", re.DOTALL), r"\1"),
    (re.compile(r"(could not convert string to float): .*", re.DOTALL), r"\1"),
)


def _words_for_sender(error: MlflowException) -> str:
    """MLflow's message without the input that it repeats."""
    cause = error.__context__
    if error.message.startswith("Failed to enforce schema of data") and cause is not None:
        return f"the input does not fit the model's signature: {_without_data(str(cause))}"
    return _without_data(error.message)


def _without_data(message: str) -> str:
    for repetition, rest in _REPETITIONS:
        message = repetition.sub(rest, message)
    return message
