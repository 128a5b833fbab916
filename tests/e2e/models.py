"""Registers the models of these tests in an MLflow registry; run as a process of its own, once per test session."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from mlflow.models.model import ModelInfo
from sklearn.linear_model import LinearRegression

INPUTS = pd.DataFrame({"x": [0.0, 1.0, 0.0, 2.0], "y": [0.0, 0.0, 1.0, 3.0]})


class Broken(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Does not load."""

    def load_context(self, context: Any) -> None:
        raise ValueError("the scaler's file is from another century")

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input


class Doubler(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A pyfunc class with params."""

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        return (model_input["x"] * (params or {}).get("factor", 2.0)).tolist()


class Counter(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers piece by piece when asked to."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return [0, 1, 2]

    def predict_stream(self, context: Any, model_input: Any, params: Any = None) -> Any:
        for number in range(3):
            yield {"number": number}


class Environment(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Predicts what the environment variables are that it is asked for."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return [os.environ.get(name) for name in model_input["name"]]


class Slow(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Takes as many seconds as it is told."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        time.sleep(float(model_input["seconds"].iloc[0]))
        return model_input["seconds"].tolist()


class Actor(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Does what it is told, good or bad."""

    def load_context(self, context: Any) -> None:
        while os.environ.get("LOADS_WHILE") and os.path.exists(os.environ["LOADS_WHILE"]):
            time.sleep(0.01)
        if os.environ.get("DIES_WHILE") and os.path.exists(os.environ["DIES_WHILE"]):
            sys.stderr.write("the scales have fallen off\n")
            os._exit(9)

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        for action, value in zip(model_input["do"], model_input["with"], strict=True):
            match action:
                case "sleep":
                    time.sleep(float(value))
                case "work":
                    until = time.thread_time() + float(value)
                    while time.thread_time() < until:
                        pass
                case "wait while":
                    while os.path.exists(value):
                        time.sleep(0.01)
                case "wait":  # for ever, as in a deadlock
                    threading.Event().wait()
                case "print":
                    for _ in range(int(value)):
                        sys.stdout.write("x" * 99 + "\n")
        return [os.getpid()] * len(model_input)


#: What is asked for on OpenAI's paths: a chat model, an agent, and one that makes embeddings.
OPENAI = """
import mlflow
from mlflow.pyfunc import ChatModel, PythonModel, ResponsesAgent
from mlflow.types.llm import ChatChoice, ChatChoiceDelta, ChatChunkChoice, ChatCompletionChunk, ChatCompletionResponse
from mlflow.types.llm import ChatMessage
from mlflow.types.responses import ResponsesAgentResponse, ResponsesAgentStreamEvent


class Parrot(ChatModel):
    def predict(self, context, messages, params):
        said = ChatMessage(role="assistant", content=f"{messages[-1].content} at {params.temperature}")
        return ChatCompletionResponse(choices=[ChatChoice(index=0, message=said)], model="parrot")

    def predict_stream(self, context, messages, params):
        for word in messages[-1].content.split():
            delta = ChatChoiceDelta(role="assistant", content=word)
            yield ChatCompletionChunk(choices=[ChatChunkChoice(index=0, delta=delta)], model="parrot")


class Agent(ResponsesAgent):
    def predict(self, request):
        text = f"you said {request.input[-1].content}"
        return ResponsesAgentResponse(output=[self.create_text_output_item(text=text, id="m1")])

    def predict_stream(self, request):
        for word in request.input[-1].content.split():
            yield ResponsesAgentStreamEvent(**self.create_text_delta(delta=word, item_id="m1"))
        item = self.create_text_output_item(text=request.input[-1].content, id="m1")
        yield ResponsesAgentStreamEvent(type="response.output_item.done", item=item)


class Lengths(PythonModel):
    def predict(self, context, model_input, params=None):
        texts = model_input["input"]
        texts = [texts] if isinstance(texts, str) else list(texts)
        data = [{"object": "embedding", "index": i, "embedding": [float(len(t)), 0.5]} for i, t in enumerate(texts)]
        return {"object": "list", "data": data, "model": "lengths", "usage": {"prompt_tokens": 1, "total_tokens": 1}}


mlflow.models.set_model(%s())
"""

CODE = """
import mlflow
from mlflow.pyfunc import PythonModel

class FromCode(PythonModel):
    def predict(self, context, model_input, params=None):
        return [f"row {i}" for i in range(len(model_input))]

mlflow.models.set_model(FromCode())
"""


def main(registry: str, folder: Path) -> None:
    """Register every model."""
    warnings.simplefilter("ignore")
    mlflow.set_tracking_uri(registry)
    mlflow.create_experiment("tests", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("tests")
    for factor in (1.0, 2.0, 3.0):
        linear("linear", factor)
    mlflow.MlflowClient().set_registered_model_alias("linear", "champion", "2")
    linear("other", 10.0)
    for name, factor in (("model-A", 1.0), ("model-B", 2.0)):  # as the demo calls its models
        linear(name, factor)
    log(mlflow.pyfunc, "broken", python_model=Broken())
    log(mlflow.pyfunc, "counter", python_model=Counter())
    signature = infer_signature(INPUTS, [1.0], params={"factor": 2.0})
    log(mlflow.pyfunc, "doubler", python_model=Doubler(), signature=signature)
    log(mlflow.pyfunc, "environment", python_model=Environment())
    log(mlflow.pyfunc, "slow", python_model=Slow())
    log(mlflow.pyfunc, "actor", python_model=Actor())
    code = folder / "from_code.py"
    code.write_text(CODE)
    log(mlflow.pyfunc, "from-code", python_model=str(code))
    for name in ("Parrot", "Agent", "Lengths"):
        code = folder / f"{name}.py"
        code.write_text(OPENAI % name)
        log(mlflow.pyfunc, name.lower(), python_model=str(code))
    boosted()


def linear(name: str, factor: float) -> None:
    """One more version of a linear model: factor * (x + 10 y)."""
    model = LinearRegression().fit(INPUTS, factor * (INPUTS["x"] + 10 * INPUTS["y"]))
    log(mlflow.sklearn, name, sk_model=model, signature=infer_signature(INPUTS, model.predict(INPUTS)))


def boosted() -> None:
    """An XGBoost and a LightGBM model."""
    import lightgbm
    import mlflow.lightgbm
    import mlflow.xgboost
    import xgboost

    data = pd.concat([INPUTS] * 20, ignore_index=True)
    target = data["x"] + 10 * data["y"]
    signature = infer_signature(INPUTS, [1.0])
    log(
        mlflow.xgboost, "xgboost", xgb_model=xgboost.XGBRegressor(n_estimators=5).fit(data, target), signature=signature
    )
    model = lightgbm.LGBMRegressor(n_estimators=5, min_child_samples=1, verbose=-1).fit(data, target)
    log(mlflow.lightgbm, "lightgbm", lgb_model=model, signature=signature)


def log(flavour: Any, name: str, **model: Any) -> ModelInfo:
    """Log a model and register it, without MLflow's search for requirements."""
    return flavour.log_model(name=name, registered_model_name=name, pip_requirements=["mlflow"], **model)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
