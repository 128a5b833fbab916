"""`wye up`: start Envoy, the control plane and the worker host, watch them, and stop them cleanly."""

from controlplane.up.command import up

__all__ = ["up"]
