"""Where the files of a registered model's version are. Only `lookup.py` knows MLflow, in a process of its own."""

from controlplane.registry.fake import FakeRegistry
from controlplane.registry.model_registry import ModelRegistry
from controlplane.registry.registry import Registry

__all__ = ["FakeRegistry", "ModelRegistry", "Registry"]
