"""Small MLflow models of many kinds, each saved once for a test run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# As in a replica; two OpenMP threads on two busy cores wait for each other for seconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")

FRAME = {"a": [float(n) for n in range(20)], "b": [float(n * 2 % 7) for n in range(20)]}

_FROM_CODE = """
import mlflow
class Doubler(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input * 2
mlflow.models.set_model(Doubler())
"""

_CLASSES = """
import os, signal, sys, time
import numpy as np, pandas as pd
import mlflow
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        {body}

    def load_context(self, context):
        {load}

mlflow.models.set_model(Model())
"""


class SavedModels:
    """Makes models by name, when they are first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, name: str) -> Path:
        """The path of one of the models below, or of one from `code` that was made before."""
        made = self._directory / name
        if made.exists():
            return made
        make: Callable[[Path], None] = getattr(self, f"_{name}")
        return self._made(name, make)

    def code(self, name: str, body: str = "return model_input", load: str = "pass", **options: Any) -> Path:
        """A model from code, whose `predict` and `load_context` have these bodies."""

        def make(path: Path) -> None:
            import mlflow.pyfunc

            source = self._directory / f"{name}.py"
            source.write_text(_CLASSES.format(body=body, load=load))
            mlflow.pyfunc.save_model(str(path), python_model=str(source), pip_requirements=["mlflow"], **options)

        return self._made(name, make)

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        path = self._directory / name
        if not path.exists():
            # Recorded, for MLflow sets filters of its own that let its advice through.
            with warnings.catch_warnings(record=True):
                warnings.simplefilter("ignore")
                make(path)
        return path

    def _linear(self, path: Path) -> None:
        import mlflow.sklearn
        import pandas as pd
        from mlflow.models import infer_signature
        from sklearn.linear_model import LinearRegression

        frame = pd.DataFrame(FRAME)
        model = LinearRegression().fit(frame, frame.a * 2 + frame.b)
        self._save(mlflow.sklearn, model, path, signature=infer_signature(frame, model.predict(frame)))

    def _neighbours(self, path: Path) -> None:
        """A model of some megabytes, with the signature of the linear one."""
        import mlflow.sklearn
        import numpy as np
        import pandas as pd
        from mlflow.models import infer_signature
        from sklearn.neighbors import KNeighborsRegressor

        grid = np.arange(300.0)
        frame = pd.DataFrame({"a": np.repeat(grid, 300), "b": np.tile(grid, 300)})
        model = KNeighborsRegressor(1).fit(frame, frame.a * 2 + frame.b)
        self._save(mlflow.sklearn, model, path, signature=infer_signature(frame, frame.a))

    def _classifier(self, path: Path) -> None:
        """No signature, and integer classes."""
        import mlflow.sklearn
        import pandas as pd
        from sklearn.linear_model import LogisticRegression

        frame = pd.DataFrame(FRAME)
        self._save(mlflow.sklearn, LogisticRegression().fit(frame, frame.a > 9), path)

    def _pipeline(self, path: Path) -> None:
        """Strings, integers, booleans and a datetime."""
        import mlflow.sklearn
        import pandas as pd
        from mlflow.models import infer_signature
        from sklearn.compose import ColumnTransformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import OneHotEncoder

        frame = pd.DataFrame(
            {
                "city": ["Bern", "Rome", "Oslo", "Rome"],
                "age": pd.Series([1, 2, 3, 4], dtype="int64"),
                "member": [True, False, True, False],
                "score": [0.5, 1.5, 2.5, 3.5],
            }
        )
        model = Pipeline(
            [
                (
                    "columns",
                    ColumnTransformer(
                        [("city", OneHotEncoder(handle_unknown="ignore"), ["city"])], remainder="passthrough"
                    ),
                ),
                ("classes", LogisticRegression()),
            ]
        ).fit(frame, ["x", "y", "x", "y"])
        signature = infer_signature(frame, model.predict(frame))
        self._save(mlflow.sklearn, model, path, signature=signature, input_example=frame)

    def _tensor(self, path: Path) -> None:
        import mlflow.sklearn
        import numpy as np
        from mlflow.models import infer_signature
        from sklearn.linear_model import LinearRegression

        data = np.arange(12, dtype="float64").reshape(6, 2)
        model = LinearRegression().fit(data, data.sum(axis=1))
        self._save(mlflow.sklearn, model, path, signature=infer_signature(data, model.predict(data)))

    def _xgboost(self, path: Path) -> None:
        import mlflow.xgboost
        import pandas as pd
        from mlflow.models import infer_signature
        from xgboost import XGBRegressor

        frame = pd.DataFrame(FRAME)
        model = XGBRegressor(n_estimators=5).fit(frame, frame.a * 2 + frame.b)
        mlflow.xgboost.save_model(model, str(path), signature=infer_signature(frame), pip_requirements=["xgboost"])

    def _lightgbm(self, path: Path) -> None:
        import mlflow.lightgbm
        import pandas as pd
        from lightgbm import LGBMRegressor
        from mlflow.models import infer_signature

        frame = pd.DataFrame(FRAME)
        model = LGBMRegressor(n_estimators=5, min_child_samples=1, verbose=-1).fit(frame, frame.a * 2 + frame.b)
        mlflow.lightgbm.save_model(model, str(path), signature=infer_signature(frame), pip_requirements=["lightgbm"])

    def _catboost(self, path: Path) -> None:
        import mlflow.catboost
        import pandas as pd
        from catboost import CatBoostRegressor
        from mlflow.models import infer_signature

        frame = pd.DataFrame(FRAME)
        model = CatBoostRegressor(iterations=5, thread_count=1, verbose=False, allow_writing_files=False)
        model.fit(frame, frame.a * 2 + frame.b)
        mlflow.catboost.save_model(model, str(path), signature=infer_signature(frame), pip_requirements=["catboost"])

    def _catboost_classifier(self, path: Path) -> None:
        """A column of words, and words as classes, of which there are three: its answers are lists of one."""
        import mlflow.catboost
        import pandas as pd
        from catboost import CatBoostClassifier
        from mlflow.models import infer_signature

        frame = pd.DataFrame(FRAME).assign(city=["Bern", "Rome", "Oslo", "Rome"] * 5)
        model = CatBoostClassifier(
            iterations=5, thread_count=1, verbose=False, allow_writing_files=False, cat_features=["city"]
        ).fit(frame, ["low"] * 8 + ["middle"] * 6 + ["high"] * 6)
        signature = infer_signature(frame)
        mlflow.catboost.save_model(
            model, str(path), signature=signature, input_example=frame, pip_requirements=["catboost"]
        )

    def _forest(self, path: Path) -> None:
        import mlflow.sklearn
        import pandas as pd
        from mlflow.models import infer_signature
        from sklearn.ensemble import RandomForestRegressor

        frame = pd.DataFrame(FRAME)
        model = RandomForestRegressor(5, random_state=7).fit(frame, frame.a * 2 + frame.b)
        self._save(mlflow.sklearn, model, path, signature=infer_signature(frame, model.predict(frame)))

    def _forest_classifier(self, path: Path) -> None:
        """Probabilities wanted, words as classes."""
        import mlflow.sklearn
        import pandas as pd
        from mlflow.models import infer_signature
        from sklearn.ensemble import ExtraTreesClassifier

        frame = pd.DataFrame(FRAME)
        model = ExtraTreesClassifier(5, random_state=7).fit(frame, ["low"] * 8 + ["middle"] * 6 + ["high"] * 6)
        self._save(mlflow.sklearn, model, path, signature=infer_signature(frame, model.predict(frame)))

    def _scaled(self, path: Path) -> None:
        """A pipeline that ends in matrix products, of floats and integers; asked for probabilities."""
        import mlflow.sklearn
        import pandas as pd
        from mlflow.models import infer_signature
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        frame = pd.DataFrame(FRAME).assign(n=range(20))
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, frame.a > 9)
        signature = infer_signature(frame, model.predict_proba(frame))
        self._save(mlflow.sklearn, model, path, signature=signature, pyfunc_predict_fn="predict_proba")

    def _two_outputs(self, path: Path) -> None:
        import mlflow.sklearn
        import pandas as pd
        from mlflow.models import infer_signature
        from sklearn.linear_model import Ridge

        frame = pd.DataFrame(FRAME)
        model = Ridge().fit(frame, pd.DataFrame({"x": frame.a * 0.3, "y": frame.b * 0.7}))
        self._save(mlflow.sklearn, model, path, signature=infer_signature(frame, model.predict(frame)))

    def _onnx(self, path: Path) -> None:
        import mlflow.onnx
        import onnx
        import pandas as pd
        from mlflow.models import infer_signature
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
            [helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [0.3, 0.7])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        frame = pd.DataFrame(FRAME)
        mlflow.onnx.save_model(model, str(path), signature=infer_signature(frame), pip_requirements=["onnx"])

    def _statsmodels(self, path: Path) -> None:
        """Answers a series."""
        import mlflow.statsmodels
        import pandas as pd
        import statsmodels.api as sm
        from mlflow.models import infer_signature

        frame = pd.DataFrame(FRAME)
        results = sm.OLS(frame.a * 2 + frame.b, frame).fit()
        mlflow.statsmodels.save_model(
            results, str(path), signature=infer_signature(frame), pip_requirements=["statsmodels"]
        )

    def _kinds(self, path: Path) -> None:
        """Answers, for each row, the types and values that the model was given; a column of each kind, two optional."""
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        source = self._directory / "kinds.py"
        source.write_text(
            "import mlflow\n"
            "class Kinds(mlflow.pyfunc.PythonModel):\n"
            "    def predict(self, context, model_input, params=None):\n"
            "        types = [f'{name}:{dtype}' for name, dtype in model_input.dtypes.items()]\n"
            "        return [f'{types} {list(row)!r} {params}' for row in model_input.itertuples(index=False)]\n"
            "mlflow.models.set_model(Kinds())\n"
        )
        columns = [
            *(ColSpec(kind, kind) for kind in ("double", "float", "long", "integer", "boolean", "string")),
            *(ColSpec(kind, f"maybe {kind}", required=False) for kind in ("double", "string")),
        ]
        signature = ModelSignature(inputs=Schema(columns))
        mlflow.pyfunc.save_model(str(path), python_model=str(source), signature=signature, pip_requirements=["mlflow"])

    def _dated(self, path: Path) -> None:
        """A datetime beside a double."""
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        source = self._directory / "dated.py"
        source.write_text(
            "import mlflow\n"
            "class Dated(mlflow.pyfunc.PythonModel):\n"
            "    def predict(self, context, model_input, params=None):\n"
            "        return [f'{when.year} {value}' for when, value in zip(model_input.when, model_input.value)]\n"
            "mlflow.models.set_model(Dated())\n"
        )
        signature = ModelSignature(inputs=Schema([ColSpec("datetime", "when"), ColSpec("double", "value")]))
        mlflow.pyfunc.save_model(str(path), python_model=str(source), signature=signature, pip_requirements=["mlflow"])

    def _streaming(self, path: Path) -> None:
        """A model that answers piece by piece too."""
        import mlflow.pyfunc

        source = self._directory / "streaming.py"
        source.write_text(
            "import mlflow\n"
            "class Words(mlflow.pyfunc.PythonModel):\n"
            "    def predict(self, context, model_input, params=None):\n"
            "        return list(self.predict_stream(context, model_input))\n"
            "    def predict_stream(self, context, model_input, params=None):\n"
            "        for word in model_input['messages'][0]['content'].split():\n"
            "            if word == 'fail':\n"
            "                raise ValueError('told to')\n"
            "            yield {'word': word}\n"
            "mlflow.models.set_model(Words())\n"
        )
        mlflow.pyfunc.save_model(str(path), python_model=str(source), pip_requirements=["mlflow"])

    def _from_code(self, path: Path) -> None:
        import mlflow.pyfunc

        source = self._directory / "doubler.py"
        source.write_text(_FROM_CODE)
        mlflow.pyfunc.save_model(str(path), python_model=str(source), pip_requirements=["mlflow"])

    def _parameters(self, path: Path) -> None:
        """A pyfunc class with a params schema."""
        import mlflow.pyfunc
        import pandas as pd
        from mlflow.models import infer_signature

        class Scaler(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
            def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
                return model_input * params["factor"]

        mlflow.pyfunc.save_model(
            str(path),
            python_model=Scaler(),
            signature=infer_signature(pd.DataFrame(FRAME), pd.DataFrame(FRAME), params={"factor": 2.0, "name": "x"}),
            pip_requirements=["mlflow"],
        )

    def _hinted(self, path: Path) -> None:
        """A model whose signature comes from type hints."""
        import mlflow.pyfunc

        source = self._directory / "hinted.py"
        source.write_text(
            "import mlflow\n"
            "from mlflow.pyfunc.utils import pyfunc\n"
            "class Lengths(mlflow.pyfunc.PythonModel):\n"
            "    def predict(self, model_input: list[str], params=None) -> list[int]:\n"
            "        return [len(text) for text in model_input]\n"
            "mlflow.models.set_model(Lengths())\n"
        )
        mlflow.pyfunc.save_model(str(path), python_model=str(source), pip_requirements=["mlflow"])

    def _chat(self, path: Path) -> None:
        import mlflow.pyfunc

        source = self._directory / "chat.py"
        source.write_text(
            "import mlflow\n"
            "from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage\n"
            "class Echo(mlflow.pyfunc.ChatModel):\n"
            "    def predict(self, context, messages, params):\n"
            "        said = messages[-1].content.upper()\n"
            "        return ChatCompletionResponse(choices=[ChatChoice(message=ChatMessage(role='assistant', content=said))],\n"
            "                                      created=0, model='echo')\n"
            "mlflow.models.set_model(Echo())\n"
        )
        mlflow.pyfunc.save_model(str(path), python_model=str(source), pip_requirements=["mlflow"])

    @staticmethod
    def _save(flavor: Any, model: Any, path: Path, **options: Any) -> None:
        flavor.save_model(
            model, str(path), pip_requirements=["scikit-learn"], serialization_format="cloudpickle", **options
        )
