"""MLflow models as `Model`s. The only file of the worker that imports MLflow."""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import mlflow.artifacts
import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_params_schema
from mlflow.pyfunc import scoring_server
from mlflow.types.schema import DataType

from model_worker import native
from model_worker.batch import FastPath
from model_worker.codec import Format, InputError, Payload
from model_worker.columns import Column, Kind, Rows, Signature, Tensor
from model_worker.fast import Ways, Wish, fast_path
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
    fresh_randomness()
    # MLflow and the flavours behave differently where they serve; MLflow's own server says so in the same way.
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    if "MLFLOW_TRACKING_URI" in os.environ:
        mlflow.tracing.enable()
    else:
        _keep_no_traces()
    # Whether the requirements fit is for whoever chose this environment; checking costs a third of the loading time.
    return MlflowModel(mlflow.pyfunc.load_model(str(path), suppress_warnings=True), path)


def _keep_no_traces() -> None:
    """Have agents trace nothing: nobody said where to.

    MLflow would make a database in the replica's own directory at the first request, which takes 2 s, and fill it for ever.
    """
    with suppress(AttributeError):  # MLflow before 2.14
        mlflow.tracing.disable()
        # Where nothing is traced, MLflow 3.17 holds this lock while it loads a model; one that loads others, as a bundle
        # does, would wait for itself for ever.
        if hasattr(mlflow.tracing.provider, "_trace_disabled_lock"):
            mlflow.tracing.provider._trace_disabled_lock = threading.RLock()


def fresh_randomness() -> None:
    """Have random numbers of one's own: a fork's copy of the generator would give the same ones in every replica."""
    np.random.seed()


def rehearse() -> None:
    """Predict a few times with a small model, so that what every replica does at first is done before it is forked.

    The interpreter writes into code that runs (its counters and its caches), and pages that it has written in stay
    shared; 5 MB of each replica's, and a part of the time of its first answer.
    """
    _keep_no_traces()  # a tenth of a replica's start, when it is done there
    from mlflow.models import Model, infer_signature  # noqa: PLC0415 - with the rest of what only this needs
    from mlflow.sklearn import _SklearnModelWrapper  # noqa: PLC0415
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415

    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 2.0]})
    metadata = Model(
        signature=infer_signature(frame, [1.0]), flavors={"python_function": {"loader_module": "mlflow.sklearn"}}
    )
    wrapped = _SklearnModelWrapper(LinearRegression().fit(frame, [1.0, 2.0, 3.0]))
    model = MlflowModel(mlflow.pyfunc.PyFuncModel(model_meta=metadata, model_impl=wrapped), Path(os.devnull))
    for _ in range(3):
        model.predict(Payload(Format.DATAFRAME_SPLIT, {"columns": ["a", "b"], "data": [[1.0, 2.0]]}))
        model.predict(Payload(Format.DATAFRAME_RECORDS, [{"a": 1.0, "b": 2.0}]))
    model.fast_path(Wish.from_text(""))


class MlflowModel:
    """A pyfunc model of any flavour: the same inputs and the same predictions as in MLflow's scoring server."""

    def __init__(self, model: mlflow.pyfunc.PyFuncModel, path: Path) -> None:
        self._model = model
        self._path = path
        self._input_schema = model.metadata.get_input_schema()
        self._params_schema = model.metadata.get_params_schema()
        self._typed_by_hints = model.metadata._is_signature_from_type_hint()
        self._is_responses_agent = (model.metadata.metadata or {}).get("task") == "agent/v1/responses"

    @property
    def version(self) -> str:
        """The version of MLflow."""
        return str(mlflow.__version__)

    @property
    def signature(self) -> Signature:
        """What its input is made of; None where only its own code knows."""
        return None if self._typed_by_hints else _signature(self._input_schema)

    def predict(self, payload: Payload) -> Any:
        """The predictions for one payload.

        Raises InputError, ModelError.
        """
        data, params = self._input(payload)
        try:
            return self._model.predict(data, params=params)
        except Exception as error:
            raise _blamed(error) from error

    def _tried(self, payload: Payload) -> Any:
        """As `predict`, for rows that nobody sent: nobody has to read of it when the model refuses them."""
        data, params = self._input(payload)
        return self._model.predict(data, params=params)

    @property
    def streams(self) -> bool:
        """Whether the model has a `predict_stream`."""
        return self._model._predict_stream_fn is not None

    def predict_stream(self, payload: Payload) -> Iterator[Any]:
        """The pieces of the model's answer.

        Raises InputError, ModelError, here or while they are read.
        """
        data, params = self._input(payload)
        try:
            yield from self._model.predict_stream(data, params=params)
        except Exception as error:
            raise _blamed(error) from error

    def fast_path(self, wish: Wish) -> FastPath | None:
        """A checked way around MLflow for the requests that it is known for; takes some predictions to find."""
        if self._typed_by_hints or self._model.metadata._is_type_hint_from_example() or self.streams:
            return None
        signature = _signature(self._input_schema)
        # What scikit-learn says of arrays in place of frames; the trial compares the predictions.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        path = fast_path(signature, self._tried, self._ways(), wish, self._example())
        if path is None:
            return None
        return FastPath(self._with_checked_params(path.read), path.predict, path.max_rows, path.cost)

    def _with_checked_params(self, read: Callable[[Payload], Rows | None]) -> Callable[[Payload], Rows | None]:
        def checked(payload: Payload) -> Rows | None:
            if payload.params:
                if self._params_schema is None or not isinstance(payload.params, dict):
                    return None
                try:
                    _enforce_params_schema(dict(payload.params), self._params_schema)
                except Exception:  # noqa: BLE001 - the plain path will say what is wrong
                    return None
            return read(payload)

        return checked

    def _ways(self) -> Ways:
        """How this model can be asked, by its flavour."""
        model, flavour = self._model, self._model.loader_module

        def enforced(data: Any, params: Any) -> Any:
            return model.predict(data, params=params)

        predict = model._predict_fn
        if flavour not in _ROW_WISE or predict.__name__ not in _PREDICTIONS:
            return Ways(enforced)
        raw = model.get_raw_model()
        if flavour == "mlflow.statsmodels":
            return Ways(enforced, not _is_of_time(raw), direct=predict)
        if flavour not in _ESTIMATORS:
            return Ways(enforced, row_wise=True, direct=predict)
        if not _is_of_libraries(raw):
            return Ways(enforced)
        if self._params_schema is not None and flavour == "mlflow.xgboost":
            return Ways(enforced, row_wise=True)
        takes_arrays = hasattr(raw, "n_features_in_")
        kernel = native.kernel(raw) if flavour == "mlflow.sklearn" and predict.__name__ == "predict" else None
        method = getattr(raw, predict.__name__, None)
        return Ways(enforced, True, True, predict, method if takes_arrays else None, kernel)

    def _example(self) -> Any:
        """The model's input example as a frame or an array, or a frame of what a fitted estimator knows of its input."""
        example = None
        with suppress(Exception):
            example = self._model.metadata.load_input_example(str(self._path))
        if example is None and self._input_schema is None:
            with suppress(Exception):
                names = self._model.get_raw_model().feature_names_in_
                example = pd.DataFrame(np.ones((1, len(names))), columns=names)
        return example

    def _input(self, payload: Payload) -> tuple[Any, Any]:
        try:
            return self._parse(payload)
        except InputError:
            raise
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
            case Format.ARROW:
                return _arrow_frame(payload.value), None
            case Format.UNWRAPPED:
                message = payload.value
                if self._is_responses_agent and isinstance(message.get("input"), str):
                    # A text means this to OpenAI's API; MLflow's agents take messages alone.
                    message = {**message, "input": [{"role": "user", "content": message["input"]}]}
                data, params = scoring_server._split_data_and_params_for_llm_input(message, self._params_schema)
                return data, params
            case _ if not self._typed_by_hints:
                parsed = scoring_server.infer_and_parse_data({str(payload.format): payload.value}, self._input_schema)
                return parsed, payload.params
            case Format.INPUTS:
                return payload.value, payload.params
            case _:
                raise InputError(f"this model's input is typed: send it under 'inputs', not {payload.format}")


#: Flavours of estimators in scikit-learn's style: their own `predict` takes an array for a frame of numbers.
_ESTIMATORS = frozenset({"mlflow.sklearn", "mlflow.xgboost", "mlflow.lightgbm", "mlflow.catboost"})
#: Flavours whose models predict row by row, so that a row's prediction does not depend on the rows beside it …
_ROW_WISE = _ESTIMATORS | {"mlflow.onnx", "mlflow.statsmodels"}
#: … if this is what they are asked for.
_PREDICTIONS = frozenset({"predict", "predict_proba", "predict_log_proba"})


def _signature(schema: Any) -> Signature:
    """MLflow's schema as columns, as far as they know it."""
    if schema is None:
        return None
    if schema.is_tensor_spec():
        spec = schema.inputs[0]
        named = schema.has_input_names() or len(schema.inputs) != 1
        return () if named else Tensor(spec.type.name, tuple(spec.shape))
    if not schema.has_input_names():
        return ()
    kinds = {kind.value: kind for kind in Kind}
    return tuple(
        Column(column.name, kinds.get(column.type.name) if isinstance(column.type, DataType) else None, column.required)
        for column in schema.inputs
    )


_LIBRARIES = frozenset({"sklearn", "xgboost", "lightgbm", "catboost"})


def _is_of_libraries(estimator: Any) -> bool:
    """Whether all of an estimator's code is a library's whose predictions are row by row."""
    parts = [estimator]
    if hasattr(estimator, "get_params"):
        parts += estimator.get_params(deep=True).values()
    for part in parts:
        if isinstance(part, tuple | list):
            parts += part
        is_estimator = hasattr(part, "predict") or hasattr(part, "transform")
        if is_estimator and type(part).__module__.partition(".")[0] not in _LIBRARIES:
            return False
        if callable(part) and not isinstance(part, type):  # a user's function, as FunctionTransformer has one
            return False
    return True


def _is_of_time(results: Any) -> bool:
    from statsmodels.tsa.base.tsa_model import TimeSeriesModel  # noqa: PLC0415 - installed if such a model is

    return isinstance(results.model, TimeSeriesModel)


def _arrow_frame(data: bytes) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - 30 MB that most replicas never need

    try:
        return pa.ipc.open_stream(data).read_pandas()
    except (pa.ArrowException, OSError) as error:
        raise InputError("the body is not an Arrow IPC stream that holds a table") from error


def _blamed(error: Exception) -> Exception:
    """Whose fault it is, in words for the sender."""
    if isinstance(error, MlflowException) and _is_about_input(error):
        return InputError(_words_for_sender(error))
    # The stack is for whoever wrote the model, and it is in the log; the sender gets the exception's words.
    traceback.print_exception(error, file=sys.stderr)
    words = error.message if isinstance(error, MlflowException) else str(error)
    return ModelError(f"the model failed with {type(error).__name__}: {words}")


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
