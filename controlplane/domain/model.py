"""What a registered model says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model's signature and example, each as the JSON text that MLflow stores, "" where the model has none."""

    #: Lists of columns or tensors, as in the file MLmodel.
    inputs: str = ""
    outputs: str = ""
    params: str = ""
    #: A whole body of a request.
    example: str = ""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a registered model."""

    version: str
    #: The aliases that stand for it now.
    aliases: tuple[str, ...] = ()
    #: MLflow's word; only READY ones can be served.
    status: str = "READY"
