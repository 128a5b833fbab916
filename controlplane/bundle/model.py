"""The model that holds others. Its source travels with every bundle, so it imports MLflow, pandas and nothing of Wye."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

#: The parameter that names the model to be asked.
MODEL = "model"


class Bundle(mlflow.pyfunc.PythonModel):  # type: ignore[misc] # MLflow ships no types
    """Asks the member that `params={"model": …}` or a column of the input names, else the first one."""

    def load_context(self, context: Any) -> None:
        """Load every member."""
        config = context.model_config
        self._names: list[str] = list(config["models"])
        self._column: str = config.get("column") or ""
        self._models = {name: mlflow.pyfunc.load_model(context.artifacts[name]) for name in self._names}

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        """What the member predicts; rows that name different members are put together again in their order."""
        params = dict(params or {})
        wanted = params.pop(MODEL, None) or self._names[0]
        if not self._column or not isinstance(model_input, pd.DataFrame) or self._column not in model_input.columns:
            return self._ask(wanted, model_input, params)
        column = model_input[self._column]
        names = column.where(column.notna() & (column != ""), wanted)
        rest = model_input.drop(columns=[self._column])
        if names.nunique() == 1:
            return self._ask(str(names.iloc[0]), rest, params)
        answers: list[Any] = [None] * len(rest)
        for name, rows in names.groupby(names).groups.items():
            places = np.flatnonzero(names.index.isin(rows))
            predictions = _by_row(self._ask(str(name), rest.iloc[places].reset_index(drop=True), params))
            if len(predictions) != len(places):
                raise MlflowException(
                    f"model {name!r} gave {len(predictions)} predictions for {len(places)} rows; ask it alone",
                    error_code=INVALID_PARAMETER_VALUE,
                )
            for place, prediction in zip(places, predictions, strict=True):
                answers[place] = prediction
        return answers

    def predict_stream(
        self,
        context: Any,  # noqa: ARG002
        model_input: Any,
        params: dict[str, Any] | None = None,
    ) -> Iterator[Any]:
        """What the member answers piece by piece, if it can."""
        params = dict(params or {})
        name = params.pop(MODEL, None) or self._names[0]
        member = self._member(name)
        yield from member.predict_stream(model_input, params=_known(member, params))

    def _ask(self, name: str, model_input: Any, params: dict[str, Any]) -> Any:
        member = self._member(name)
        schema = member.metadata.get_input_schema()
        if schema is not None and isinstance(model_input, pd.DataFrame) and not schema.is_tensor_spec():
            # As MLflow's scoring server does for a model that is asked alone.
            from mlflow.utils.proto_json_utils import cast_df_types_according_to_schema  # noqa: PLC0415

            model_input = cast_df_types_according_to_schema(model_input.copy(), schema)
        return member.predict(model_input, params=_known(member, params))

    def _member(self, name: str) -> Any:
        if name not in self._models:
            raise MlflowException(
                f"there is no model {name!r} in this bundle; it has {', '.join(self._names)}",
                error_code=INVALID_PARAMETER_VALUE,
            )
        return self._models[name]


def _known(member: Any, params: dict[str, Any]) -> dict[str, Any] | None:
    """Those of the parameters that the member has."""
    schema = member.metadata.get_params_schema()
    if schema is None:
        return None
    return {spec.name: params[spec.name] for spec in schema if spec.name in params}


def _by_row(predictions: Any) -> list[Any]:
    if isinstance(predictions, pd.DataFrame):
        return list(predictions.to_dict(orient="records"))
    return list(predictions)


mlflow.models.set_model(Bundle())
