"""Where replicas run. A runtime starts, restarts and stops them and keeps the fleet cell true; it decides nothing."""

from controlplane.runtimes.base import Fleet, OutOfReachError, Runtime

__all__ = ["Fleet", "OutOfReachError", "Runtime"]
