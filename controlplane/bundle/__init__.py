"""Several registered models in one: `wye package`, and the same from Python.

    from controlplane.bundle import package
    package(["models:/a/1", "models:/b@champion"], name="bundle")

Needs no running Wye: it reads and writes an MLflow registry. MLflow is imported when something is packaged, not before.
"""

from controlplane.bundle.members import BundleError
from controlplane.bundle.packaging import Packaged, package

__all__ = ["BundleError", "Packaged", "package"]
