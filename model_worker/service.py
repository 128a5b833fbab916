"""One model as a service, whatever the protocol around it: bytes in, a reply out, errors as values."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Executor
from dataclasses import dataclass

from model_worker import codec
from model_worker.codec import Format, InputError, OutputError, UnsupportedTypeError
from model_worker.model import Model, ModelError

#: Longer messages help nobody, and may hold a whole input.
_MAX_MESSAGE = 2000


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered: an HTTP status, which any protocol can map, and a JSON body."""

    status: int
    body: bytes


class Service:
    """Answers requests with a model that runs in `executor`'s threads, so that the caller's loop stays free."""

    def __init__(self, model: Model, executor: Executor) -> None:
        self._model = model
        self._executor = executor

    @property
    def version(self) -> str:
        """The version of what serves the model."""
        return self._model.version

    async def invoke(self, body: bytes, content_type: str | None) -> Reply:
        """The reply to one request; never raises for what the request or the model does wrong."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, body, content_type)

    def _answer(self, body: bytes, content_type: str | None) -> Reply:
        try:
            payload = codec.decode(body, content_type)
            predictions = self._model.predict(payload)
            return Reply(200, codec.encode(predictions, wrapped=payload.format is not Format.UNWRAPPED))
        except UnsupportedTypeError as error:
            return problem(415, "BAD_REQUEST", str(error))
        except (InputError, ModelError, OutputError) as error:
            # 400 for the model's failures too: clients retry a 500 for minutes, and it would only fail again.
            return problem(400, "BAD_REQUEST", str(error))


def problem(status: int, code: str, message: str) -> Reply:
    """An error as every part of Wye answers it."""
    # The Databricks SDK takes these two words for a passing fault of the platform and sends the request again.
    message = message.replace("Unexpected error", "unexpected error")
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + " …"
    return Reply(status, json.dumps({"error_code": code, "message": message}).encode())
