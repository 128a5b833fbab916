"""What a replica serves, whatever made it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from model_worker.codec import Payload
from model_worker.columns import Signature


class ModelError(Exception):
    """The model's own code failed on this input; the text is the exception's own words."""


class Model(Protocol):
    """A loaded model. Its `predict` may be called by several threads at once."""

    @property
    def version(self) -> str:
        """The version of what serves it, for `GET /version`."""

    @property
    def signature(self) -> Signature:
        """What its input is made of."""

    def predict(self, payload: Payload) -> Any:
        """The predictions, as any value that `codec.encode` takes.

        Raises InputError when the payload does not fit the model, ModelError when the model fails on it.
        """

    @property
    def streams(self) -> bool:
        """Whether it can answer piece by piece."""

    def predict_stream(self, payload: Payload) -> Iterator[Any]:
        """The pieces of an answer, each a JSON value.

        Raises, here or while it is read, what `predict` raises.
        """
