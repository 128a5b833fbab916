"""The REST API: one file per resource, errors in one place. Decides nothing that `schema` and `lifecycle` can decide."""

from controlplane.api.app import create_app
from controlplane.api.deps import Deps
from controlplane.api.server import Server, serve

__all__ = ["Deps", "Server", "create_app", "serve"]
